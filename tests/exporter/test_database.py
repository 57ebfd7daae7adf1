from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text

from exporter.database import NOW, clock, open_database, require_tables, sqlite_url
from exporter.errors import DatabaseNotReadyError, DatabaseUnreachableError
from exporter.tables import deployments, ledger_positions, versions


def test_the_databases_clock_is_seconds_since_1970(db: Engine) -> None:
    with db.connect() as connection:
        assert abs(clock(connection) - time.time()) < 5


def test_now_can_be_stored(db: Engine) -> None:
    with db.begin() as connection:
        row = {"model": "m", "version": "v1", "number": 1, "state": "candidate", "path": "p"}
        row |= {"manifest_sha256": "0", "manifest": {}, "created_at": 0.0}
        connection.execute(insert(versions).values(**row))
        connection.execute(insert(deployments).values(model="m", champion="v1", revision=1, changed_at=NOW))
        assert abs((connection.scalar(select(deployments.c.changed_at)) or 0) - time.time()) < 5


def test_sqlite_is_durable_and_checks_foreign_keys(sqlite_db: Engine) -> None:
    with sqlite_db.connect() as connection:
        found = {
            name: connection.execute(text(f"pragma {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_read_then_write_transactions_of_two_writers_wait_for_each_other(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(insert(ledger_positions).values(segment="s", position=0, sealed=False))

    def add() -> None:
        for _ in range(30):
            with db.begin() as connection:
                query = select(ledger_positions.c.position).with_for_update()
                position = connection.scalar(query) or 0
                connection.execute(ledger_positions.update().values(position=position + 1))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.connect() as connection:
        assert connection.scalar(select(ledger_positions.c.position)) == 90


def test_a_reader_does_not_block_a_writer(sqlite_db: Engine) -> None:
    with sqlite_db.connect() as reader:
        assert reader.scalar(select(ledger_positions.c.position)) is None
        with sqlite_db.begin() as writer:
            writer.execute(insert(ledger_positions).values(segment="s", position=1, sealed=False))
        assert reader.scalar(select(ledger_positions.c.position)) is None  # its snapshot stays


def test_a_database_without_tables_is_told_from_one_that_does_not_answer(tmp_path: Path) -> None:
    empty = open_database(sqlite_url(tmp_path))
    with pytest.raises(DatabaseNotReadyError, match="trueup db upgrade"):
        require_tables(empty)
    empty.dispose()
    with pytest.raises(DatabaseUnreachableError) as refused:
        open_database("postgresql://somebody:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(refused.value)
