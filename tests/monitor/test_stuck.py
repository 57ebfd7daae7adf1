"""Real processes, really stopped with SQLite's real lock in their hands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from monitor.lease import acquire
from monitor.stuck import LockWatch, enlist, is_stopped, lock_holder, process_name
from monitor.tables import leases, monitors

pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux only")
WRITER = """
import sys, time
from sqlalchemy import insert
from exporter.database import open_database
from monitor.stuck import enlist
from monitor.tables import leases
db = open_database(sys.argv[1])
if sys.argv[2] == "monitor":
    enlist(db, "other")
if sys.argv[3] == "writes":
    with db.begin() as connection:
        connection.execute(insert(leases).values(name="half", holder="x", epoch=1, expires_at=0.0))
        print("ready", flush=True)
        time.sleep(600)
print("ready", flush=True)
time.sleep(600)
"""


@contextmanager
def process(db: Engine, who: str = "monitor", what: str = "writes") -> Iterator[subprocess.Popen[str]]:
    """One that holds the lock, or is only there."""
    command = [sys.executable, "-c", WRITER, db.url.render_as_string(), who, what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
        running.kill()


def stop(running: subprocess.Popen[str]) -> None:
    running.send_signal(signal.SIGSTOP)
    wait(lambda: is_stopped(running.pid))


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watch(db: Engine) -> LockWatch:
    return LockWatch(db, "me", patience_s=3.0)


def looks(db: Engine) -> list[int | None]:
    """What another monitor's looks find, for longer than its patience."""
    watching = LockWatch(db, "me", patience_s=3.0)
    return [watching.look(now) for now in (0.0, 1.0, 2.9, 3.0, 4.0)]


def test_a_stopped_monitor_with_the_lock_is_ended_after_a_lease_and_its_write_undone(
    sqlite_db: Engine,
) -> None:
    with process(sqlite_db) as other:
        stop(other)
        assert looks(sqlite_db) == [None, None, None, other.pid, None]
        assert other.wait(10) == -signal.SIGKILL
    assert acquire(sqlite_db, "s", "me", lease_s=3) == 1
    with sqlite_db.connect() as connection:
        assert connection.scalars(select(leases.c.name)).all() == ["s"]


@pytest.mark.parametrize(
    ("who", "what"), [("stranger", "writes"), ("monitor", "waits")], ids=["no monitor", "without the lock"]
)
def test_no_other_stopped_process_is_touched(who: str, what: str, sqlite_db: Engine) -> None:
    with process(sqlite_db, who, what) as other:
        stop(other)
        assert looks(sqlite_db) == [None] * 5
        assert is_stopped(other.pid)


def test_a_monitor_that_writes_for_long_or_wakes_in_time_is_not_touched(sqlite_db: Engine) -> None:
    enlist(sqlite_db, "me")
    watching = LockWatch(sqlite_db, "me", patience_s=3.0)
    watching.look(0.0)
    with process(sqlite_db) as other:
        assert lock_holder(Path(f"{sqlite_db.url.database}-shm")) == other.pid
        assert [watching.look(now) for now in (1.0, 9.0)] == [None, None]
        stop(other)
        assert watching.look(10.0) is None
        other.send_signal(signal.SIGCONT)
        wait(lambda: not is_stopped(other.pid))
        assert watching.look(14.0) is None
        stop(other)
        assert watching.look(15.0) is None  # it counts from this stop
        assert other.poll() is None


def test_a_process_with_the_number_of_a_monitor_is_none(sqlite_db: Engine) -> None:
    with process(sqlite_db, "stranger") as other:
        name = process_name(other.pid)
        assert name is not None
        earlier = f"{name.rpartition(':')[0]}:1"  # the same number, started earlier
        watching = LockWatch(sqlite_db, "me", patience_s=3.0)
        watching._known = {earlier: "gone"}
        stop(other)
        assert [watching.look(now) for now in (0.0, 4.0)] == [None, None]
        assert is_stopped(other.pid)


def test_others_are_forgotten_when_they_are_gone_and_kept_where_they_cannot_be_seen(
    sqlite_db: Engine,
) -> None:
    mine = process_name(os.getpid())
    assert mine is not None
    boot, namespace, pid, start = mine.split(":")
    names = {
        "alive": mine,
        "ended": f"{boot}:{namespace}:{pid}:1",
        "earlier boot": f"x{boot}:{namespace}:{pid}:{start}",
        "another container": f"{boot}:1:{pid}:{start}",
    }
    with sqlite_db.begin() as connection:
        rows = [{"process": name, "holder": who, "started_at": 0.0} for who, name in names.items()]
        connection.execute(insert(monitors), rows)
    enlist(sqlite_db, "me")
    with sqlite_db.connect() as connection:
        assert set(connection.scalars(select(monitors.c.holder))) == {"me", "another container"}
