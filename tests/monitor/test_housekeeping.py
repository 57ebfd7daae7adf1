from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update

from exporter import registry
from exporter.tables import reference, versions
from monitor import jobs, tables
from monitor.housekeeping import (
    clean,
    clean_candidates,
    clean_job_folders,
    clean_slots,
    clean_snapshots,
)
from monitor.settings import MonitorSettings
from monitor.tables import due_slots
from tests.exporter.versions import build_version

DAY = 86400.0
NOW = 1.8e9
LONG_AGO = NOW - 400 * DAY
BEFORE = NOW - 90 * DAY


def add_slots(db: Engine, schedule: str, days_ago: list[float], state: str = "done") -> None:
    rows = [
        {"schedule": schedule, "due_at": NOW - ago * DAY, "state": state, "attempt": 1, "epoch": 1}
        for ago in days_ago
    ]
    with db.begin() as connection:
        connection.execute(insert(due_slots), rows)


def slots(db: Engine) -> set[tuple[str, float]]:
    with db.connect() as connection:
        rows = connection.execute(select(due_slots.c.schedule, due_slots.c.due_at))
        return {(row.schedule, (NOW - row.due_at) / DAY) for row in rows}


def test_old_slots_go_but_the_newest_of_each_schedule_and_those_not_worked_stay(db: Engine) -> None:
    add_slots(db, "check:m", [100, 50, 10])
    add_slots(db, "retrain:gone", [90, 80])
    add_slots(db, "retrain:m", [70], state="queued")
    add_slots(db, "retrain:m", [60])
    assert clean_slots(db, before=NOW - 30 * DAY) == 2
    assert slots(db) == {
        ("check:m", 50), ("check:m", 10), ("retrain:gone", 80), ("retrain:m", 70), ("retrain:m", 60)
    }  # fmt: skip


def test_more_slots_than_one_transaction_deletes_all_go(db: Engine) -> None:
    add_slots(db, "check:m", [100 + number / 1000 for number in range(2500)])
    assert clean_slots(db, before=NOW - 30 * DAY) == 2499


def made(db: Engine, home: Path, seed: int, *, state: str | None, at: float = LONG_AGO) -> str:
    """Register a version; `state`: of the job that made it, None where a person did."""
    version = registry.register(db, home, build_version(home / f"b{seed}", seed=seed), threads=1, now=at)
    if state is not None:
        add_job(db, f"k{seed}", state=state, candidate=version, base_version="v1", finished_at=at)
    return version


def add_job(db: Engine, key: str, *, state: str, **values: Any) -> int:
    with db.begin() as connection:
        job = jobs.enqueue(connection, "router", trigger="manual", dedupe_key=key, base_version=None)
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job).values(state=state, **values))
    return job


def names(db: Engine) -> list[str]:
    return [row.version for row in registry.list_versions(db)]


def test_candidates_of_failed_jobs_go_with_their_files_and_nothing_else_does(
    home: Path, sqlite_db: Engine
) -> None:
    forsaken = made(sqlite_db, home, 1, state="failed")
    cancelled = made(sqlite_db, home, 2, state="cancelled")
    kept = [
        "v1",  # the champion
        made(sqlite_db, home, 3, state=None),  # trained by hand: somebody may promote it
        made(sqlite_db, home, 4, state="failed", at=NOW - DAY),
        made(sqlite_db, home, 5, state="done"),
        made(sqlite_db, home, 6, state="failed"),  # the newest: its number must not be given again
    ]
    path = registry.version_path(sqlite_db, "router", forsaken)
    assert path.is_dir()
    assert clean_candidates(sqlite_db, home, before=BEFORE) == 2
    assert names(sqlite_db) == kept
    assert not path.exists()
    assert list((home / "versions" / ".staging").iterdir()) == []
    with sqlite_db.connect() as connection:
        left = select(func.count()).where(reference.c.version.in_((forsaken, cancelled)))
        assert connection.execute(left).scalar() == 0
    assert clean_candidates(sqlite_db, home, before=BEFORE) == 0


def test_champion_and_previous_stay_even_where_a_failed_job_made_them(home: Path, sqlite_db: Engine) -> None:
    second = made(sqlite_db, home, 1, state="failed")
    third = made(sqlite_db, home, 2, state="failed")
    made(sqlite_db, home, 3, state="failed")
    for old, new in (("v1", second), (second, third)):
        assert registry.promote(sqlite_db, "router", new, expected=old, reason="test", actor="test")
    with sqlite_db.begin() as connection:  # whatever their state says
        connection.execute(update(versions).values(state="candidate"))
    assert clean_candidates(sqlite_db, home, before=BEFORE) == 0


@pytest.mark.parametrize("column", ["candidate", "base_version"])
def test_a_candidate_of_an_active_job_stays(column: str, home: Path, sqlite_db: Engine) -> None:
    version = made(sqlite_db, home, 1, state="failed")
    made(sqlite_db, home, 2, state=None)
    add_job(sqlite_db, "again", state="running", **{column: version})
    assert clean_candidates(sqlite_db, home, before=BEFORE) == 0


def test_a_crash_between_files_and_rows_is_finished_the_next_day(home: Path, sqlite_db: Engine) -> None:
    version = made(sqlite_db, home, 1, state="failed")
    made(sqlite_db, home, 2, state=None)
    registry.version_path(sqlite_db, "router", version).rename(home / "gone")
    assert clean_candidates(sqlite_db, home, before=BEFORE) == 1
    assert version not in names(sqlite_db)


def old_file(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def sha256(db: Engine, version: str) -> str:
    (row,) = [row for row in registry.list_versions(db) if row.version == version]
    return str(row.manifest["data"]["sha256"])


def test_snapshots_that_no_version_names_go_when_they_are_old(home: Path, sqlite_db: Engine) -> None:
    named = old_file(home / "data" / f"{sha256(sqlite_db, 'v1')}.parquet")
    manifest = {"data": {"sha256": "elsewhere"}}  # of another database that shares the folder
    old_file(home / "versions" / "other" / "v9" / "manifest.json", json.dumps(manifest))
    shared = old_file(home / "data" / "elsewhere.parquet")
    nobodys = old_file(home / "data" / "nobodys.parquet")
    beside = old_file(home / "data" / f"{named.stem}.0123.npy")
    orphan = old_file(home / "data" / "nobodys.0123.npy")
    foreign = old_file(home / "data" / "notes.txt")
    young = home / "data" / "young.parquet"
    young.touch()
    os.utime(young, (NOW, NOW))
    assert clean_snapshots(sqlite_db, home, before=BEFORE) == 2
    assert [path.exists() for path in (named, beside, shared, foreign, young)] == [True] * 5
    assert not nobodys.exists()
    assert not orphan.exists()


def test_no_snapshot_goes_while_a_job_is_active(home: Path, sqlite_db: Engine) -> None:
    snapshot = old_file(home / "data" / "nobodys.parquet")
    add_job(sqlite_db, "k", state="running")
    assert clean_snapshots(sqlite_db, home, before=BEFORE) == 0
    assert snapshot.exists()


def test_work_folders_of_jobs_that_ended_long_ago_go(home: Path, sqlite_db: Engine) -> None:
    dead = add_job(sqlite_db, "k1", state="failed", finished_at=LONG_AGO)
    fresh = add_job(sqlite_db, "k2", state="failed", finished_at=NOW)
    active = add_job(sqlite_db, "k3", state="running")
    for name in (dead, fresh, active, "notes"):
        old_file(home / "jobs" / str(name) / "1" / "request.json")
        os.utime(home / "jobs" / str(name), (LONG_AGO, LONG_AGO))
    assert clean_job_folders(sqlite_db, home, before=BEFORE) == 1
    assert {path.name for path in (home / "jobs").iterdir()} == {str(fresh), str(active), "notes"}


def test_an_empty_home_is_clean(tmp_path: Path, db: Engine) -> None:
    cleaned = clean(db, tmp_path / "nothing", MonitorSettings(), now=NOW)
    assert (cleaned.slots, cleaned.candidates, cleaned.job_folders, cleaned.snapshots) == (0, 0, 0, 0)
