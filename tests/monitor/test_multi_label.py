"""Several labels for one text, from rows to a verdict: trained, registered, served, labelled, retrained."""

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
from exporter.tables import labels, new_classes
from monitor import jobs
from monitor.answer_names import OTHER, answer_names
from monitor.check import run_check
from monitor.migrate import upgrade
from monitor.quality.reading import read_known, read_rows
from monitor.retrain import Workshop, run_job
from monitor.settings import ModelSettings, MonitorSettings
from monitor.windows import read_labelled
from tests.exporter.exporter_process import exporter_process
from tests.monitor import tiny
from trainer.report import read_report
from trainer.rows import HoldoutRow, Row, write_snapshot
from trainer.settings import TrainerSettings
from trainer.spec import TrainSpec, parse_spec
from trainer.tasks.multi_label import canonical
from trainer.train import DataRef, train

T0 = 1.7e9
SETTINGS = ModelSettings(window=100, min_window=30, min_labels=50, cooldown=0.0, margin=0.3, approval=True)


def texts(seed: int, rows: int, *, new: bool = False) -> list[tuple[str, str]]:
    """(text, canonical set): words of no desk, of one or of both."""
    rng, found = np.random.default_rng(seed), dict[str, str]()
    while len(found) < rows:
        desks = [desk for desk in tiny.DESKS if rng.random() < 0.55]
        words = [
            word for desk in desks for word in rng.choice((tiny.NEW if new else tiny.DESKS)[desk], 3)
        ] + list(rng.choice(tiny.FILLER, 3))
        found[" ".join(rng.permutation(words))] = canonical(desks)
    return list(found.items())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base") / "base")


def _spec(base: Path) -> TrainSpec:
    return parse_spec(
        {
            "model": {"name": "desks", "base": str(base), "max_tokens": 16, "task": "multi-label"},
            "data": {"train": "unused.jsonl"},
            "fit": {"rung": "head", "threads": 1},
            "gate": {"parity_max_abs": 0.01},
        }
    )


@pytest.fixture(scope="module")
def home(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with v1 as champion."""
    home = tmp_path_factory.mktemp("home")
    db = open_database(sqlite_url(home))
    upgrade(db)
    rows = [Row(text=text, label=label) for text, label in texts(0, 300)]
    snapshot, digest = write_snapshot(rows, home / "data")
    seen = {row.text for row in rows}
    made = train(
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


def test_the_manifest_has_a_threshold_and_figures_for_each_label(db: Engine) -> None:
    (row,) = registry.list_versions(db, "desks")
    manifest = row.manifest
    assert manifest["labels"] == ["money", "sport"]
    assert len(manifest["thresholds"]) == 2
    assert manifest["metrics"]["accuracy"] > 0.8
    report = read_report(registry.version_path(db, "desks", row.version))
    assert report is not None
    assert report["classes"]["money"]["f1"] > 0.9
    assert manifest["metrics"]["hamming_loss"] < 0.1


def test_sets_are_counted_as_answers_of_their_own(db: Engine) -> None:
    names = answer_names(db, "desks", "v1")
    assert set(names) >= {"[]", '["money"]', '["money", "sport"]', '["sport"]', OTHER}
    known = read_known(db, "desks", "v1")
    assert known.confused.shape == (len(names), len(names))


def test_served_answers_take_labels_as_lists_or_as_they_were_answered(home: Path, db: Engine) -> None:
    asked = ["invoice refund goal match", "the a"]
    with exporter_process(home) as (_, url), httpx.Client(base_url=url, timeout=20) as client:
        answer = client.post("/v1/predict", json={"model": "desks", "inputs": [*asked, *asked]}).json()
        both, none, *again = answer["predictions"]
        assert both["labels"] == json.loads(both["label"]) == ["money", "sport"]
        assert (none["label"], none["labels"]) == ("[]", [])
        in_set = np.prod([both["scores"][name] for name in both["labels"]])
        assert both["score"] == pytest.approx(in_set, abs=1e-6)
        told = client.post(
            "/v1/labels",
            json={
                "labels": [
                    {"id": both["id"], "label": ["sport", "money"]},
                    {"id": none["id"], "label": none["label"]},
                    {"id": again[0]["id"], "label": ["money", "press"]},
                    {"id": again[1]["id"], "label": "money"},
                    {"id": both["id"], "label": '["money", "sport"]'},
                ]
            },
        ).json()
    assert (told["stored"], told["duplicates"]) == (3, 1)
    assert [one["index"] for one in told["new_labels"]] == [2]
    assert [(one["index"], one["code"]) for one in told["errors"]] == [(3, "unknown_label")]
    assert "list of names" in told["errors"][0]["message"]
    with db.connect() as connection:
        held = connection.execute(select(labels.c.prediction_id, labels.c.label)).all()
        assert connection.scalars(select(new_classes.c.label)).all() == ["press"]
    assert dict(map(tuple, held))[both["id"]] == '["money", "sport"]'
    window = read_labelled(db, "desks", "v1", after_label_seq=0)
    assert window.correct.tolist() == [1.0, 1.0, 0.0]
    rows = read_rows(db, "desks", "v1", since_seq=0, until_seq=None)
    assert (rows.truth == rows.served.answered).tolist() == [True, True, False, False]


def test_labels_retrain_it_and_the_verdict_is_about_whole_sets(home: Path, db: Engine) -> None:
    mail = texts(3, 200, new=True)
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
        settings=SETTINGS,
        monitor=MonitorSettings(evidently=False),
        trainer=TrainerSettings(cache=home / "cache"),
        threads=1,
    )
    verdict = run_job(shop, claimed)
    assert verdict is not None, jobs.list_jobs(db, "desks", limit=1)
    assert verdict["promote"], verdict
    assert registry.champion(db, "desks") == "v2"
