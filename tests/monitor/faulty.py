"""Monitors to be killed: the product's own loop, with slots and retrains whose effects are one row each.

`python -m tests.monitor.faulty URL LEASE [CHANNEL …]` forks one monitor for each line that it reads and
prints its process id; forks start in milliseconds, so that many faults fit into a minute. They end with
their parent.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Connection, insert

from exporter.database import NOW, open_database
from exporter.tables import deployment_events
from monitor import jobs, lease, schedule
from monitor.cron import Rule, parse
from monitor.jobs import Job, JobRefused
from monitor.settings import ModelSettings, MonitorSettings
from monitor.worker import Worker, run
from trainer.settings import TrainerSettings

CHECK_S, RETRAIN_S, MODELS = 0.5, 1.0, 3
WORK_LEASE_S = 1.5
WEBHOOK_SECRET = "whsec_" + "A" * 40  # of tests
ATTEMPTS = 100  # so that only what the monitor does wrong loses a retrain, not the number of faults


class Faulty(Worker):
    """A monitor whose checks and retrains only write down that they happened."""

    def rules(self) -> dict[str, Rule]:
        retrains = {f"retrain:m{number}": parse(f"every {RETRAIN_S}s") for number in range(MODELS)}
        return {"check:m": parse(f"every {CHECK_S}s"), **retrains}

    def work_slot(self) -> bool:
        """The slot's effect and its end are one transaction, as a check's are not: so that doubles show."""
        slot = schedule.claim_slot(self.db, self.holder, lease_s=self.monitor.job_lease_s)
        if slot is None:
            return False
        kind, _, model = slot.schedule.partition(":")
        if kind == "retrain":
            self._ask(model, f"{slot.schedule}@{slot.due_at}")
        else:
            time.sleep(random.uniform(0.02, 0.15))
        with lease.brief(self.db) as connection:
            schedule.finish_slot(connection, slot)
            self._happened(connection, slot.schedule, str(slot.due_at))
        return True

    def work_job(self) -> bool:
        job = jobs.claim(self.db, self.holder, lease_s=self.monitor.job_lease_s)
        if job is None:
            return False
        with lease.kept(lambda: self._beat(job), every_s=self.monitor.job_lease_s / 4):
            time.sleep(random.uniform(0.2, 0.9))
        with self.db.begin() as connection:
            jobs.finish(connection, job, verdict={"promote": True})
            self._happened(connection, "job", str(job.id))
        return True

    def _beat(self, job: Job) -> None:
        jobs.heartbeat(self.db, job, lease_s=self.monitor.job_lease_s)

    def _ask(self, model: str, key: str) -> None:
        try:
            with self.db.begin() as connection:
                jobs.enqueue(
                    connection,
                    model,
                    trigger="schedule",
                    dedupe_key=key,
                    base_version="v1",
                    max_attempts=ATTEMPTS,
                )
        except JobRefused:
            pass  # asked before, or a retrain of this model is under way

    def _happened(self, connection: Connection, what: str, which: str) -> None:
        row = {"model": what, "version": which, "reason": self.holder, "actor": "faulty", "at": NOW}
        connection.execute(insert(deployment_events).values(**row))


def monitor(url: str, lease_s: float, notify: Sequence[str]) -> None:
    """Run one until it is killed."""
    parent, stop = os.getppid(), threading.Event()
    worker = Faulty(
        db=open_database(url),
        home=Path("unused"),
        monitor=MonitorSettings(
            lease_s=lease_s,
            job_lease_s=WORK_LEASE_S,
            notify=tuple(notify),
            webhook_secret=SecretStr(WEBHOOK_SECRET),
            allow_private=True,
        ),
        models=lambda _: ModelSettings(),
        trainer=TrainerSettings(cache=Path("unused")),
        stop=stop,
    )

    worker.sender.wait_s = 0.0  # there are no explanations here

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    run(worker)


def main(url: str, lease_s: float, notify: Sequence[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no burial
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)  # standard output is for process ids
            monitor(url, lease_s, notify)
        print(child, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
