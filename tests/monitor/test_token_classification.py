"""Entities from rows to a verdict: trained, registered, served, labelled, checked, retrained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, select

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.engines import open_engine
from exporter.sketches import read_sketch
from exporter.tables import labels, predictions
from monitor import jobs
from monitor.check import run_check
from monitor.migrate import upgrade
from monitor.retrain import Workshop, run_job
from monitor.settings import ModelSettings, MonitorSettings
from monitor.windows import read_labelled
from tests.exporter.exporter_process import exporter_process
from tests.monitor import tiny
from trainer.artifact import open_version
from trainer.errors import ParityError
from trainer.graph import Graph
from trainer.head import Head
from trainer.report import read_report
from trainer.rows import HoldoutRow, Row, write_snapshot
from trainer.settings import TrainerSettings
from trainer.spec import TrainSpec, parse_spec
from trainer.splice import read_head
from trainer.tagging import TASK
from trainer.tagging.entities import Entity, canonical
from trainer.tagging.tagger import prove, torch_encoder
from trainer.tagging.version import train_tagger
from trainer.train import DataRef

T0 = 1.7e9
SETTINGS = ModelSettings(window=100, min_window=30, min_labels=50, cooldown=0.0, margin=0.3, approval=True)


def texts(seed: int, rows: int, *, new: bool = False) -> list[tuple[str, str]]:
    """(text, canonical entities): one or two words of a desk are what a text is about."""
    rng, found = np.random.default_rng(seed), dict[str, str]()
    vocabulary = tiny.NEW if new else tiny.DESKS
    while len(found) < rows:
        text, marked = str(rng.choice(tiny.FILLER)), list[Entity]()
        if rng.random() < 0.2:
            text = " ".join([text, *rng.choice(tiny.FILLER, 4)])
        for _ in range(rng.integers(1, 3) if len(text) < 12 else 0):
            desk = str(rng.choice(sorted(vocabulary)))
            words = " ".join(rng.choice(vocabulary[desk], rng.integers(1, 3)))
            marked.append(Entity(len(text) + 1, len(text) + 1 + len(words), desk))
            text = f"{text} {words} {' '.join(rng.choice(tiny.FILLER, 2))}"
        found[text] = canonical(marked)
    return list(found.items())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base") / "base")


def _spec(base: Path) -> TrainSpec:
    return parse_spec(
        {
            "model": {"name": "desks", "base": str(base), "max_tokens": 24, "task": TASK},
            "data": {"train": "unused.jsonl"},
            "fit": {"threads": 1},
            "gate": {"parity_max_abs": 0.01},
        }
    )


@pytest.fixture(scope="module")
def home(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with v1 as champion."""
    home = tmp_path_factory.mktemp("home")
    db = open_database(sqlite_url(home))
    upgrade(db)
    rows = [Row(text=text, label=label) for text, label in texts(0, 600)]
    snapshot, digest = write_snapshot(rows, home / "data")
    seen = {row.text for row in rows}
    made = train_tagger(
        _spec(base),
        train_rows=rows,
        holdout=[HoldoutRow(text=text, label=label) for text, label in texts(1, 200) if text not in seen],
        data=DataRef(sha256=digest, rows=len(rows), path=snapshot),
        out=home / "made",
        cache=home / "cache",
        parent=None,
        progress=lambda _: None,
        now=T0,
    )
    version = registry.register(db, home, made, threads=1, now=T0)
    assert registry.promote(db, "desks", version, expected=None, reason="first", actor="test")
    db.dispose()
    return home


@pytest.fixture(scope="module")
def db(home: Path) -> Iterator[Engine]:
    db = open_database(sqlite_url(home))
    yield db
    db.dispose()


def test_the_report_counts_whole_entities(db: Engine) -> None:
    (row,) = registry.list_versions(db, "desks")
    assert row.manifest["labels"] == ["money", "sport"]
    assert row.manifest["metrics"]["entity_f1"] > 0.7
    assert row.manifest["metrics"]["token_accuracy"] > 0.8
    assert row.manifest["parity"]["label_agreement"] == 1.0
    report = read_report(registry.version_path(db, "desks", row.version))
    assert report is not None
    held = report["holdout"]
    assert held["entity_f1"]["low"] <= held["entity_f1"]["value"] <= held["entity_f1"]["high"]
    assert report["classes"]["money"]["precision"]["value"] > 0.6
    assert held["ece"]["scaled"] < held["ece"]["unscaled"] + 0.05


def test_answers_do_not_depend_on_their_batch_mates(db: Engine) -> None:
    version = open_version(registry.version_path(db, "desks", "v1"))
    asked = [text for text, _ in texts(5, 30)] + ["", " ", "a"]
    engine = open_engine(version, threads=1)
    try:
        assert engine.run(asked) == [engine.run([text])[0] for text in asked]
    finally:
        engine.close()
    ids = [[2, 5, 6, 3], [2, 3]]
    logits, _ = Graph(version.model_bytes, threads=1).run(ids)
    assert logits.shape == (2, 4, 5)  # rows, tokens, O and two tags a class


def test_the_mix_of_kinds_is_what_is_watched(db: Engine) -> None:
    with db.connect() as connection:
        sketch = read_sketch(connection, "desks", "v1")
    assert sketch is not None
    assert set(sketch.labels) >= {'["money"]', '["money", "sport"]', '["sport"]'}
    held = open_version(registry.version_path(db, "desks", "v1")).holdout
    assert sketch.reference["label"].sum() == len(held) > 100  # each is counted somewhere


def test_served_entities_have_places_in_the_callers_characters(home: Path, db: Engine) -> None:
    asked = ["  please invoice refund the match", "the a", "my ann@example.org refund"]
    with exporter_process(home) as (_, url), httpx.Client(base_url=url, timeout=20) as client:
        answer = client.post("/v1/predict", json={"model": "desks", "inputs": asked}).json()
        two, none, redacted = answer["predictions"]
        found = [(asked[0][one["start"] : one["end"]], one["label"]) for one in two["entities"]]
        assert found == [("invoice refund", "money"), ("match", "sport")]
        assert all(0 < one["score"] <= 1 for one in two["entities"])
        assert set(two["scores"]) == {"money", "sport"}
        assert (none["label"], none["entities"]) == ("[]", [])
        as_objects = [{key: one[key] for key in ("end", "label", "start")} for one in two["entities"]]
        told = client.post(
            "/v1/labels",
            json={
                "labels": [
                    {"id": two["id"], "label": as_objects},
                    {"id": none["id"], "label": [[0, 3, "press"]]},
                    {"id": redacted["id"], "label": "money"},
                    {"id": two["id"], "label": two["label"]},
                ]
            },
        ).json()
    assert (told["stored"], told["duplicates"]) == (2, 1)
    assert [one["index"] for one in told["new_labels"]] == [1]
    assert [(one["index"], one["code"]) for one in told["errors"]] == [(2, "unknown_label")]
    assert "not a list of entities" in told["errors"][0]["message"]
    with db.connect() as connection:
        held = dict(map(tuple, connection.execute(select(labels.c.prediction_id, labels.c.label))))
        kept = connection.scalar(select(predictions.c.text).where(predictions.c.id == redacted["id"]))
    assert held[two["id"]] == two["label"] == json.dumps(json.loads(two["label"]))
    assert kept == "my [email]******** refund"  # as long as it was: entities stay where they are
    assert read_labelled(db, "desks", "v1", after_label_seq=0).correct.tolist() == [1.0, 0.0]


def test_labels_retrain_it_and_the_verdict_is_about_whole_texts(home: Path, db: Engine) -> None:
    mail = texts(3, 300, new=True)
    ids = tiny.answer(db, "v1", [text for text, _ in mail], first=100, at=T0)
    tiny.tell_truth(db, ids, [label for _, label in mail], now=T0)
    run_check(db, home, "desks", SETTINGS, MonitorSettings(evidently=False), now=T0 + 200)
    with db.begin() as connection:
        job = jobs.enqueue(connection, "desks", trigger="manual", dedupe_key="t", base_version="v1")
    assert job is not None
    claimed = jobs.claim(db, "test", lease_s=60)
    assert claimed is not None
    shop = Workshop(
        db=db,
        home=home,
        settings=SETTINGS.model_copy(update={"retrain_rung": "adapter"}),  # there is none of entities
        monitor=MonitorSettings(evidently=False),
        trainer=TrainerSettings(cache=home / "cache"),
        threads=1,
    )
    verdict = run_job(shop, claimed)
    assert verdict is not None, jobs.list_jobs(db, "desks", limit=1)
    assert verdict["promote"], verdict
    assert registry.champion(db, "desks") == "v2"
    report = read_report(registry.version_path(db, "desks", "v2"))
    assert report is not None
    assert report["forgetting"]["hold-out"]["rows"] > 50
    assert report["slices"]["recent"]["value"] > 0.4


def test_a_graph_that_tags_one_token_otherwise_is_refused(base: Path, db: Engine) -> None:
    version = open_version(registry.version_path(db, "desks", "v1"))
    head, graph = read_head(version.model_bytes), Graph(version.model_bytes, threads=1)
    encoder, ids = torch_encoder(base, 1), [[2, 5, 6, 3], [2, 9, 3]]
    gate, earlier = _spec(base).gate, version.manifest.parity
    proof = prove(graph, head, encoder, ids, gate, max_tokens=24, earlier=earlier)
    assert (proof.label_agreement, proof.rows) == (1.0, 3)
    other = Head(weight=head.weight, bias=head.bias + np.array([0, 0, 0, 0, 0.1], dtype=np.float32))
    with pytest.raises(ParityError):
        prove(graph, other, encoder, ids, gate, max_tokens=24, earlier=earlier)
