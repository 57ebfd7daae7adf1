from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select

from exporter.labels import record_labels
from exporter.loader import store
from exporter.tables import labels
from tests.exporter.conftest import deploy
from tests.exporter.rows import prediction
from tests.exporter.versions import build_version


def prepared(db: Engine, home: Path) -> Engine:
    deploy(db, home, build_version(home / "built"))
    with db.begin() as connection:
        store(connection, [prediction(number) for number in range(3)])
    return db


def record(db: Engine, *rows: tuple[str, str]) -> list[tuple[str, str | None]]:
    outcomes = record_labels(db, rows, source="test", now=9.0)
    return [(outcome.status, outcome.code) for outcome in outcomes]


def test_bad_rows_are_told_apart_and_the_rest_is_stored(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    rows = [("p0", "yes"), ("nobody", "yes"), ("p1", "purple"), ("p2", "no")]
    assert record(db, *rows) == [
        ("stored", None),
        ("error", "unknown_id"),
        ("error", "unknown_label"),
        ("stored", None),
    ]
    with db.connect() as connection:
        kept = connection.execute(select(labels).order_by(labels.c.seq)).all()
    assert [(row.prediction_id, row.label, row.source, row.at) for row in kept] == [
        ("p0", "yes", "test", 9.0),
        ("p2", "no", "test", 9.0),
    ]


def test_the_same_label_again_changes_nothing_and_another_one_is_a_conflict(
    tmp_path: Path, db: Engine
) -> None:
    prepared(db, tmp_path)
    assert record(db, ("p0", "yes"), ("p0", "yes"), ("p0", "no")) == [
        ("stored", None),
        ("duplicate", None),
        ("error", "conflict"),
    ]
    assert record(db, ("p0", "yes"), ("p0", "no")) == [("duplicate", None), ("error", "conflict")]


def test_an_unknown_id_is_looked_for_in_the_ledger_first(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)

    def load() -> None:
        with db.begin() as connection:
            store(connection, [prediction(7)])

    rows = [("p7", "no")]
    (outcome,) = record_labels(db, rows, source="test", now=9.0, load=load)
    assert outcome.status == "stored"


def test_thousands_of_labels_are_one_call(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    with db.begin() as connection:
        store(connection, [prediction(number) for number in range(10, 3010)])
    outcomes = record(db, *((f"p{number}", "no") for number in range(10, 3010)))
    assert outcomes == [("stored", None)] * 3000
