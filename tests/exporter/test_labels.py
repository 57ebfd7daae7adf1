from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from exporter import registry
from exporter.labels import record_labels
from exporter.loader import store
from exporter.new_classes import FORGOTTEN_S, MOST, read_names
from exporter.redact import keeping
from exporter.tables import labels, versions
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
    rows = [("p0", "yes"), ("nobody", "yes"), ("p1", "purple "), ("p2", "no")]
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


def test_a_corrected_answer_is_kept_as_answers_are(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    with db.begin() as connection:
        written = {"task": "text-generation", "labels": []}
        connection.execute(update(versions).values(manifest=written))
    for id_, policy in (("p0", "redacted"), ("p1", "full"), ("p2", "hash")):
        given = [(id_, "write to ann@example.org")]
        kept = keeping(policy, {}).label  # type: ignore[arg-type]
        record_labels(db, given, source="test", now=9.0, kept=kept)
        (again,) = record_labels(db, given, source="test", now=9.0, kept=kept)
        assert again.status == "duplicate"
    with db.connect() as connection:
        held = dict(connection.execute(select(labels.c.prediction_id, labels.c.label)).all())
    whole = "write to ann@example.org"
    assert held == {"p0": "write to [email]", "p1": whole, "p2": whole}


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


def test_a_new_label_is_stored_counted_and_told_apart(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    outcomes = record_labels(db, [("p0", "yess"), ("p1", "purple"), ("p2", "purple")], source="test", now=9.0)
    assert {outcome.status for outcome in outcomes} == {"new_label"}
    assert "Did you mean 'yes'?" in outcomes[0].message
    assert record(db, ("p1", "purple"), ("p1", "yes")) == [("duplicate", None), ("error", "conflict")]
    with db.connect() as connection:
        assert read_names(connection, "router") == [("purple", 2), ("yess", 1)]
        assert sorted(connection.scalars(select(labels.c.label))) == ["purple", "purple", "yess"]


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "two\nlines", "nul\x00", "tab\t", " a", "\u202eb"])
def test_names_that_no_class_has_are_refused(tmp_path: Path, db: Engine, name: str) -> None:
    prepared(db, tmp_path)
    assert record(db, ("p0", name)) == [("error", "unknown_label")]


def test_a_model_may_refuse_new_labels(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    rows = [("p0", "purple"), ("p1", "yes")]
    outcomes = record_labels(db, rows, source="test", now=9.0, learns=lambda model: model != "router")
    assert [(one.status, one.code) for one in outcomes] == [("error", "unknown_label"), ("stored", None)]


def test_what_a_client_may_invent_is_bounded_and_old_names_make_room(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    with db.begin() as connection:
        store(connection, [prediction(number) for number in range(10, 20 + MOST)])
    names = [(f"p{number}", f"name {number}") for number in range(10, 10 + MOST)]
    assert record(db, *names) == [("new_label", None)] * MOST
    beyond = [(f"p{10 + MOST}", "one more"), (f"p{11 + MOST}", "name 10")]
    assert record(db, *beyond) == [("error", "unknown_label"), ("new_label", None)]
    (later,) = record_labels(db, beyond[:1], source="test", now=10.0 + FORGOTTEN_S)
    assert later.status == "new_label"


def test_a_class_that_the_champion_has_learnt_is_no_longer_new(tmp_path: Path, db: Engine) -> None:
    prepared(db, tmp_path)
    assert record(db, ("p0", "purple")) == [("new_label", None)]
    built = build_version(tmp_path / "next", labels=("yes", "no", "maybe", "purple"))
    version = registry.register(db, tmp_path, built, threads=1, now=2.0)
    assert registry.promote(db, "router", version, expected="v1", reason="learnt", actor="test")
    assert record(db, ("p1", "purple")) == [("stored", None)]  # answered by v1
    with db.connect() as connection:
        assert read_names(connection, "router") == []
