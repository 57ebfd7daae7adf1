from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from exporter import registry
from exporter.forgetting import forget
from exporter.labels import record_labels
from exporter.loader import store
from exporter.tables import labels, predictions
from monitor.history import labels_after
from monitor.label_counts import count_labels, first_unseen, keep_count, labelled, recount
from monitor.lineage import Score, read_answered
from monitor.tallies import read_answers
from tests.exporter.rows import prediction
from tests.exporter.versions import build_version


@pytest.fixture
def answered(db: Engine, tmp_path: Path) -> Engine:
    """Ten rows of each of two versions; every third one's text is not kept."""
    for number in (1, 2):
        registry.register(
            db, tmp_path, build_version(tmp_path / f"built{number}", seed=number), threads=1, now=1e9
        )
    with db.begin() as connection:
        store(connection, [row(version, number) for version in ("v1", "v2") for number in range(10)])
    return db


def row(version: str, number: int, **changes: object):  # type: ignore[no-untyped-def]
    kept = None if number % 3 == 0 else "text"
    return prediction(number, id=f"{version}-{number}", version=version, text=kept, **changes)


def tell(db: Engine, version: str, *numbers: int, label: str = "yes") -> None:
    told = [(f"{version}-{number}", label) for number in numbers]
    assert {one.status for one in record_labels(db, told, source="test", now=1.0)} == {"stored"}


def test_a_count_that_was_kept_goes_on_as_if_it_was_not(answered: Engine) -> None:
    tell(answered, "v1", 0, 1)
    tell(answered, "v2", 0, 1, 2)
    for more in (2, 3, 4):
        with answered.begin() as connection:
            fresh = count_labels(connection, "router", "v1")
            keep_count(connection, "router", "v1")
            assert count_labels(connection, "router", "v1") == fresh
        tell(answered, "v1", more, label="no")
    with answered.connect() as connection:
        found = count_labels(connection, "router", "v1")
        assert (found.rows, found.right, found.readable) == (5, 2, 3)
        assert read_answered(connection, "router", "v1") == Score(right=2, rows=5)
        assert labels_after(connection, "router", "v1", 0) == 3
        assert count_labels(connection, "router", "v2").rows == 3


def test_labels_of_a_person_who_was_forgotten_are_counted_no_more(answered: Engine) -> None:
    with answered.begin() as connection:
        store(connection, [row("v1", number, metadata={"user": "ann"}) for number in (20, 21)])
    tell(answered, "v1", 0, 1, 20, 21)
    with answered.begin() as connection:
        keep_count(connection, "router", "v1")
        assert count_labels(connection, "router", "v1").rows == 4
    assert forget(answered, "user", "ann", actor="me", before=recount).labels == 2
    with answered.connect() as connection:
        found = count_labels(connection, "router", "v1")
    assert (found.rows, found.right) == (2, 2)


def test_answers_are_looked_for_only_where_labels_of_the_version_can_be(answered: Engine) -> None:
    tell(answered, "v1", 0, 1)
    tell(answered, "v2", *range(10))
    with answered.begin() as connection:
        keep_count(connection, "router", "v1")
        assert [first_unseen(connection, "router", "v1", after) for after in (0, 1, 2, 12, 20)] == [
            0, 1, 12, 12, 20,
        ]  # fmt: skip
    tell(answered, "v1", 5)
    with answered.connect() as connection:
        found = {
            after: read_answers(connection, "router", "v1", after_label_seq=after) for after in (0, 1, 2)
        }
    assert {seq: tally.rows for seq, tally in found.items()} == {0: 3, 1: 2, 2: 1}
    assert {tally.last_seq for tally in found.values()} == {13}


def test_sqlite_comes_to_labelled_rows_by_way_of_the_labels(sqlite_db: Engine) -> None:
    query = labelled("router", "v1", func.count(), after_seq=5).compile(
        sqlite_db, compile_kwargs={"literal_binds": True}
    )
    with sqlite_db.connect() as connection:
        plan = [step.detail for step in connection.execute(text(f"explain query plan {query}"))]
    assert plan[0] == "SEARCH labels USING INTEGER PRIMARY KEY (rowid>?)"
    assert len(plan) == 2


def test_both_databases_take_the_same_query(answered: Engine) -> None:
    tell(answered, "v1", 3)
    with answered.connect() as connection:
        query = labelled("router", "v1", predictions.c.id, labels.c.label, after_seq=0)
        assert connection.execute(query).all() == [("v1-3", "yes")]
        assert connection.execute(select(func.count()).select_from(query.subquery())).scalar_one() == 1
