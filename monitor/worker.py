"""The monitor as one process: a clock, a loop that claims what is due, and a thread for the retrain in work.

Any number of these run on one database. Each may claim checks and jobs; the one with the lease inserts due
times and tells people. A process that dies loses nothing: its lease expires and the next one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import structlog
from sqlalchemy import Engine

from exporter import registry
from exporter.settings import ExporterSettings
from monitor import episodes, jobs, lease, schedule
from monitor.asking import ask_retrain, database_now
from monitor.channels import check_urls
from monitor.check import run_check
from monitor.cron import Rule, parse
from monitor.jobs import Job, JobLost
from monitor.retrain import Workshop, run_job
from monitor.schedule import Slot, SlotLost
from monitor.settings import ModelSettings, MonitorSettings
from trainer.settings import TrainerSettings

_IDLE_S = 0.2
_AFTER_ERROR_S = 1.0
_log = structlog.get_logger("trueup.worker")


def run_monitor(
    db: Engine,
    home: Path,
    monitor: MonitorSettings,
    *,
    models: Callable[[str], ModelSettings],
    trainer: TrainerSettings,
    exporter: ExporterSettings,
    stop: Event,
) -> None:
    """Run until `stop`; a retrain in work is then given back. Raises BadSchedule, UnknownChannel."""
    check_monitor(monitor)
    worker = Worker(
        db=db, home=home, monitor=monitor, models=models, trainer=trainer, threads=exporter.threads, stop=stop
    )
    clock = schedule.start_clock(worker.tick, every_s=min(0.5, monitor.lease_s / 6))
    retrains = Thread(target=worker.loop, args=("jobs", worker.work_job), name="retrains")
    retrains.start()
    try:
        worker.loop("slots", worker.work_slot)
    finally:
        stop.set()
        retrains.join()
        clock.shutdown()
        lease.release(db, lease.LEADER, worker.holder)


def check_monitor(monitor: MonitorSettings) -> None:
    """Raise BadSchedule or UnknownChannel for settings with which no monitor could run."""
    check_urls(monitor.notify)
    for text in filter(None, (monitor.check, monitor.retrain)):
        parse(text, monitor.time_zone)


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process's share of the work."""

    db: Engine
    home: Path
    monitor: MonitorSettings
    models: Callable[[str], ModelSettings]
    trainer: TrainerSettings
    threads: int = 2  # of the replay that registers a version
    stop: Event = field(default_factory=Event)
    holder: str = field(default_factory=lease.new_holder)
    epoch: int | None = None
    renewed: float = float("-inf")  # on the monotonic clock

    def lead(self) -> None:
        """Renew or take the lease; as leader insert due slots and tell people of changes."""
        if time.monotonic() - self.renewed >= self.monitor.lease_s / 3:
            asked = time.monotonic()
            self.epoch = lease.acquire(self.db, lease.LEADER, self.holder, lease_s=self.monitor.lease_s)
            self.renewed = asked
        if self.epoch is None:
            return
        schedule.tick(self.db, self.rules(), holder=self.holder, epoch=self.epoch)
        episodes.tell(self.db, self.monitor.notify, now=database_now(self.db))

    def rules(self) -> dict[str, Rule]:
        """The schedules of every registered model."""
        kinds = {"check": self.monitor.check, "retrain": self.monitor.retrain}
        return {
            f"{kind}:{model}": parse(text, self.monitor.time_zone)
            for model in registry.models(self.db)
            for kind, text in kinds.items()
            if text
        }

    def work_slot(self) -> bool:
        """Do one due slot; returns whether there was one."""
        slot = schedule.claim_slot(self.db, self.holder, lease_s=self.monitor.job_lease_s)
        if slot is None:
            return False
        error = self._guard("slot", f"{slot.schedule}@{slot.due_at:.0f}", lambda: self._do(slot))
        with self.db.begin() as connection:
            schedule.finish_slot(connection, slot, error=error)
        return True

    def work_job(self) -> bool:
        """Run one retrain to its end; returns whether there was one."""
        job = jobs.claim(self.db, self.holder, lease_s=self.monitor.job_lease_s)
        if job is None:
            return False
        error = self._guard("job", job.id, lambda: run_job(self.workshop(job), job))
        if error is not None:
            with self.db.begin() as connection:
                jobs.retry(connection, job, error)
        return True

    def workshop(self, job: Job) -> Workshop:
        """Where the job runs."""
        return Workshop(
            db=self.db,
            home=self.home,
            settings=self.models(job.model),
            monitor=self.monitor,
            trainer=self.trainer,
            threads=self.threads,
            stop=self.stop,
        )

    def _do(self, slot: Slot) -> None:
        kind, _, model = slot.schedule.partition(":")
        settings = self.models(model)
        if kind == "check":
            run_check(self.db, self.home, model, settings, self.monitor)
        elif registry.champion(self.db, model) is not None:
            key = f"{slot.schedule}@{slot.due_at:.0f}"
            ask_retrain(self.db, model, settings, self.monitor, asked="schedule", key=key)

    def loop(self, name: str, step: Callable[[], bool]) -> None:
        """Call `step` until `stop`; rest when it had nothing to do, longer when it failed."""
        while not self.stop.is_set():
            busy: list[bool] = []
            if self._guard("loop", name, lambda: busy.append(step())) is not None:  # noqa: B023  # called at once
                self.stop.wait(_AFTER_ERROR_S)
            elif not any(busy):
                self.stop.wait(_IDLE_S)

    def tick(self) -> None:
        """What the clock calls."""
        self._guard("loop", "lead", self.lead)

    def _guard(self, what: str, id_: object, act: Callable[[], object]) -> str | None:
        """Run `act`; log what it raises, with the id, and return it in words."""
        try:
            act()
        except (SlotLost, JobLost) as lost:
            _log.info("lost", what=what, id=id_, problem=str(lost))
            return None
        except Exception as problem:
            _log.exception("failed", what=what, id=id_)
            return f"{type(problem).__name__}: {problem}"
        return None
