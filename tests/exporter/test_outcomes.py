from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from exporter.database import open_database, sqlite_url
from exporter.errors import EngineFailedError, LedgerWriteError, QueueFullError, UnknownModelError
from exporter.loader import Loader
from exporter.outcomes import Outcomes
from exporter.tables import rollups
from tests.exporter.test_service import ForgetfulLedger, inputs, running


def written(db: Engine) -> dict[tuple[str, int, str], int]:
    with db.connect() as connection:
        found = connection.execute(select(rollups).where(rollups.c.series == "outcome")).all()
    return {(row.version, row.hour, row.bin): row.rows for row in found}


def test_outcomes_of_one_hour_add_up_over_exporters_and_passes(db: Engine) -> None:
    clock = iter([10.0, 20.0, 3599.0, 3600.0, 7199.0])
    here, there = (Outcomes(now=lambda: next(clock)) for _ in range(2))
    here.add("router", "v1", "answered")
    there.add("router", "v1", "answered")
    here.write(db)
    here.write(db)
    there.add("router", "v1", "failed")
    there.add("router", "v1", "failed")
    there.write(db)
    here.add("router", "v2", "answered")
    here.write(db)
    assert written(db) == {
        ("v1", 0, "answered"): 2,
        ("v1", 0, "failed"): 1,
        ("v1", 3600, "failed"): 1,
        ("v2", 3600, "answered"): 1,
    }


def test_counts_wait_for_a_database_that_does_not_answer(tmp_path: Path, sqlite_db: Engine) -> None:
    outcomes = Outcomes(now=lambda: 0.0)
    outcomes.add("router", "v1", "failed")
    without_tables = open_database(sqlite_url(tmp_path / "empty"))
    with pytest.raises(OperationalError):
        outcomes.write(without_tables)
    without_tables.dispose()
    outcomes.add("router", "v1", "failed")
    outcomes.write(sqlite_db)
    assert written(sqlite_db) == {("v1", 0, "failed"): 2}


def test_the_loader_writes_them_with_its_passes(tmp_path: Path, sqlite_db: Engine) -> None:
    outcomes = Outcomes(now=lambda: 0.0)
    loader = Loader(sqlite_db, tmp_path / "ledger", interval_s=60, outcomes=outcomes)
    outcomes.add("router", "v1", "answered")
    loader.run_once()
    assert written(sqlite_db) == {("v1", 0, "answered"): 1}
    outcomes.add("router", "v1", "answered")
    loader.start()
    loader.stop()
    assert written(sqlite_db) == {("v1", 0, "answered"): 2}


def test_what_the_service_could_not_answer_has_failed_and_a_clients_mistake_has_not(
    home: Path, sqlite_db: Engine
) -> None:
    outcomes = Outcomes(now=lambda: 0.0)
    with running(home, sqlite_db, outcomes=outcomes, queue_limit=2) as (service, engine):
        engine.gate.set()
        asyncio.run(service.predict("router", inputs("a", "b")))
        with pytest.raises(EngineFailedError):
            asyncio.run(service.predict("router", inputs("bad")))
        with pytest.raises(QueueFullError):
            asyncio.run(service.predict("router", inputs("a", "b", "c")))
        with pytest.raises(UnknownModelError):
            asyncio.run(service.predict("nobody", inputs("a")))
    outcomes.write(sqlite_db)
    assert written(sqlite_db) == {("v1", 0, "answered"): 1, ("v1", 0, "failed"): 1}


def test_an_answer_that_could_not_be_recorded_has_failed(home: Path, sqlite_db: Engine) -> None:
    outcomes = Outcomes(now=lambda: 0.0)
    with running(home, sqlite_db, ForgetfulLedger, outcomes=outcomes) as (service, engine):
        engine.gate.set()
        with pytest.raises(LedgerWriteError):
            asyncio.run(service.predict("router", inputs("a")))
    outcomes.write(sqlite_db)
    assert written(sqlite_db) == {("v1", 0, "failed"): 1}
