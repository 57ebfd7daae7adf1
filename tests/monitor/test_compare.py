from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select

from exporter.prediction import Prediction, columns
from exporter.registry import register, version_path
from exporter.tables import predictions, reference
from monitor.compare import compare
from monitor.compose import Pairing
from monitor.verdict import Comparison, CrossfitRows, judge
from tests.exporter.versions import build_version
from trainer.artifact import DataPrint, open_version, seal
from trainer.crossfit import FOLDS, Judged, OutOfFold, write_unseen
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot

OLD = [HoldoutRow(text=f"old question number {n} about a card", label="yes") for n in range(6)]
NEW = [
    HoldoutRow(text=f"{word} is a new thing to ask about today", label="no", slice="recent")
    for word in ("alpha", "beta", "gamma", "delta")
]
TAUGHT = [
    HoldoutRow(text="please close the old account of mine", label="no"),
    HoldoutRow(text="which fee is due when I travel", label="no"),
    HoldoutRow(text="my phone has lost its charger again", label="no"),
    HoldoutRow(text="send the statement of last month by mail", label="no"),
]
TRAINED = [
    Row(text="Old question number 2 about a card!", label="yes"),
    Row(text="quite another", label="no"),
]


def sealed(
    folder: Path,
    home: Path,
    holdout: Sequence[HoldoutRow],
    *,
    seed: int,
    trained: Sequence[Row] = tuple(TRAINED),
) -> Path:
    """A version with this hold-out and these training rows."""
    build_version(folder, seed=seed, labels=("yes", "no", "maybe") if seed else ("yes", "maybe"))
    manifest = open_version(folder).manifest
    _, digest = write_snapshot(trained, home / "data")
    (folder / "manifest.json").unlink()
    write_holdout(holdout, folder / "holdout.parquet")
    data = DataPrint(sha256=digest, rows=len(trained))
    seal(folder, manifest.model_copy(update={"data": data, "files": {}}))
    return folder


def record(db: Engine, ids: Sequence[str], asked: Sequence[HoldoutRow] = tuple(NEW)) -> None:
    """What clients were told: v1 knows no label "no"."""
    rows = [
        Prediction(
            id=id_,
            model="router",
            version="v1",
            role="champion",
            at=1.7e9,
            text=held.text,
            label="maybe",
            score=0.7,
            scores=(0.3, 0.7),
            embedding=b"\0\0",
            similarity=None,
            tokens=3,
            characters=len(held.text),
            truncated=False,
            queue_ms=0.0,
            run_ms=1.0,
            metadata={"channel": "mail", "request": id_},
        )
        for id_, held in zip(ids, asked, strict=True)
    ]
    with db.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in rows])


@pytest.fixture
def compared(db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    monkeypatch.setattr("monitor.verdict.slices.MIN_ROWS", 4)
    for seed, holdout in enumerate((OLD, [*OLD, *NEW])):
        folder = sealed(tmp_path / f"built{seed}", tmp_path, holdout, seed=seed)
        register(db, tmp_path, folder, threads=1, now=1.7e9)
    ids = ("p1", "p2", "p3", "p4")
    record(db, ids)
    pairing = Pairing(parent="v1", base_rows=6, recent_ids=ids, labels_used=9)
    return compare(db, tmp_path, "router", "v2", pairing, threads=1)


def test_rows_that_repeat_a_training_row_are_left_out_and_counted(compared: Comparison) -> None:
    assert compared.left_out == ("2",)
    assert [row.key for row in compared.base] == ["0", "1", "3", "4", "5"]
    assert [row.key for row in compared.recent] == ["p1", "p2", "p3", "p4"]


def test_each_answer_is_the_one_that_the_engine_gave(
    compared: Comparison, db: Engine, tmp_path: Path
) -> None:
    columns = (reference.c.row, reference.c.version, reference.c.label, reference.c.scores)
    with db.connect() as connection:
        said = {
            (row, name): (label, scores) for row, name, label, scores in connection.execute(select(*columns))
        }
    labels = open_version(version_path(db, "router", "v2")).manifest.labels
    for row in compared.base:
        for name, answer in (("v1", row.champion), ("v2", row.challenger)):
            assert answer.right == (said[int(row.key), name][0] == "yes")
    for place, row in enumerate(compared.recent, 6):
        label, scores = said[place, "v2"]
        assert row.challenger.right == (label == "no")
        assert row.challenger.truth_score == pytest.approx(scores[labels.index("no")], abs=5e-5)
        assert row.challenger.score == pytest.approx(max(scores), abs=5e-5)


def test_a_label_that_the_champion_does_not_know_has_score_nought(compared: Comparison) -> None:
    assert {
        (row.champion.right, row.champion.score, row.champion.truth_score) for row in compared.recent
    } == {(False, 0.7, 0.0)}


def test_cross_fitted_rows_are_compared_with_what_clients_got(
    db: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.verdict.slices.MIN_ROWS", 3)
    rows = [Row(text=row.text, label=str(row.label)) for row in TAUGHT]
    echo = Row(text="Send the statement of last month by MAIL!", label="no")
    for seed, trained in enumerate((TRAINED, [*TRAINED, *rows, echo])):
        folder = sealed(tmp_path / f"built{seed}", tmp_path, OLD, seed=seed, trained=trained)
        register(db, tmp_path, folder, threads=1, now=1.7e9)
    ids = ("p1", "p2", "p3", "p4")
    record(db, ids, TAUGHT)
    unseen = Judged(rows=TAUGHT, out=tmp_path / "unseen.parquet")
    logits = np.log([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    found = OutOfFold(rows=np.arange(4), folds=np.arange(4), logits=logits)
    write_unseen(unseen, found, ["maybe", "no"], task="classification", temperature=1.0)
    pairing = Pairing(
        parent="v1", base_rows=6, recent_ids=(), labels_used=9,
        judged_ids=ids, judged_old=1, unseen=str(unseen.out),
    )  # fmt: skip
    assert Pairing.from_json(json.loads(json.dumps(pairing.to_json()))) == pairing
    told = compare(db, tmp_path, "router", "v2", pairing, threads=1)
    assert [row.key for row in told.base][-1] == "p1"
    assert [row.key for row in told.recent] == ["p2", "p3"]
    assert told.left_out == ("2", "p4")  # a row that is always learnt says the same
    assert [row.challenger.right for row in told.recent] == [True, False]
    assert told.recent[0].challenger.truth_score == pytest.approx(0.8, abs=1e-4)
    assert not told.recent[0].champion.right
    assert told.recent[0].slices == ("channel=mail",)
    assert told.crossfit == CrossfitRows(folds=FOLDS, recent=2, base=1)
    assert [row.key for row in told.sealed_base] == ["0", "1", "3", "4", "5"]
    again = Comparison.from_json(json.loads(json.dumps(told.to_json())))
    assert again == told
    assert judge("drift", again, margin=0.03) == judge("drift", told, margin=0.03)
    assert "Cross-fitted: 2 recent and 1 old" in judge("drift", told, margin=0.03).reasons[-1]


def test_only_frequent_metadata_makes_slices(compared: Comparison) -> None:
    assert {row.slices for row in compared.recent} == {("channel=mail",)}
    assert {row.slices for row in compared.base} == {()}


def test_the_cost_of_an_answer_was_measured(compared: Comparison) -> None:
    assert compared.cost.texts == 10
    assert min(compared.cost.champion_ms + compared.cost.challenger_ms) > 0
