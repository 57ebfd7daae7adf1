from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from exporter.errors import MetadataKeyError
from exporter.forgetting import digest, forget
from exporter.loader import load_once
from exporter.tables import forgettings, labels, predictions
from tests.exporter.rows import ledger, prediction


def ids(db: Engine) -> list[str]:
    with db.connect() as connection:
        return list(connection.scalars(select(predictions.c.id).order_by(predictions.c.seq)))


def fill(db: Engine, folder: Path, users: list[object]) -> None:
    writer = ledger(folder)
    writer.append([prediction(number, metadata={"user": user}) for number, user in enumerate(users)])
    writer.close()
    load_once(db, folder)


def label(db: Engine, *rows: str) -> None:
    with db.begin() as connection:
        for row in rows:
            connection.execute(insert(labels).values(prediction_id=row, label="yes", source="test", at=1.0))


def test_one_persons_rows_and_labels_go_and_nobody_elses(tmp_path: Path, db: Engine) -> None:
    fill(db, tmp_path, ["ann", "bob", "ann", 7, None, "bob"])
    label(db, "p0", "p1")
    found = forget(db, "user", "ann", actor="me")
    assert (found.prediction_ids, found.labels) == (["p0", "p2"], 1)
    assert ids(db) == ["p1", "p3", "p4", "p5"]
    assert forget(db, "user", "7", actor="me").prediction_ids == ["p3"]
    with db.connect() as connection:
        assert list(connection.scalars(select(labels.c.prediction_id))) == ["p1"]
        asked = connection.execute(select(forgettings).order_by(forgettings.c.id)).first()
    assert asked is not None
    assert (asked.key, asked.digest, asked.actor) == ("user", digest("user", "ann"), "me")
    assert (asked.predictions, asked.labels) == (2, 1)


def test_the_newest_row_is_emptied_so_that_no_serial_number_comes_twice(tmp_path: Path, db: Engine) -> None:
    fill(db, tmp_path, ["bob", "ann"])
    label(db, "p1")
    forget(db, "user", "ann", actor="me")
    with db.connect() as connection:
        row = connection.execute(select(predictions).order_by(predictions.c.seq.desc())).first()
        left = connection.execute(select(labels)).one()
    assert row is not None
    assert row.id.startswith("forgotten-")
    assert (row.text, row.metadata, row.embedding) == (None, {}, b"")
    assert left.prediction_id.startswith("forgotten-")


def test_rows_that_a_ledger_still_holds_are_not_loaded_and_later_ones_are(tmp_path: Path, db: Engine) -> None:
    writer = ledger(tmp_path)
    writer.append([prediction(1, metadata={"user": "ann"}), prediction(2, metadata={"user": "bob"})])
    forget(db, "user", "ann", actor="me")
    writer.append([prediction(3, metadata={"user": "ann"}, at=4e9)])  # she came back
    writer.close()
    load_once(db, tmp_path)
    assert ids(db) == ["p2", "p3"]


@pytest.mark.parametrize("key", ["", 'a"b', "a\\b"])
def test_a_key_that_no_path_can_name_is_refused(sqlite_db: Engine, key: str) -> None:
    with pytest.raises(MetadataKeyError):
        forget(sqlite_db, key, "x", actor="me")


@pytest.mark.parametrize("asked", ["true", "True"])
def test_truth_is_found_however_it_is_written(tmp_path: Path, db: Engine, asked: str) -> None:
    fill(db, tmp_path, [True, False, 1, "True", "bob"])
    writer = ledger(tmp_path, "later")
    writer.append([prediction(7, metadata={"user": True}), prediction(8, metadata={"user": "bob"})])
    assert forget(db, "user", asked, actor="me").prediction_ids == ["p0", "p3"]
    assert forget(db, "user", "1", actor="me").prediction_ids == ["p2"]
    writer.close()
    load_once(db, tmp_path)
    assert ids(db) == ["p1", "p4", "p8"]
