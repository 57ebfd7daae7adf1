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
from exporter.settings import Device, ExporterSettings, Precision
from monitor import jobs, lease, rollout, schedule
from monitor.asking import ask_retrain, database_now
from monitor.channels import check_urls
from monitor.check import run_check
from monitor.clock import start_clock
from monitor.cron import Rule, parse
from monitor.housekeeping import clean
from monitor.jobs import Job, JobLost
from monitor.retrain import Workshop, run_job
from monitor.schedule import Slot, SlotLost
from monitor.sending import Sender, options, own_channels
from monitor.settings import ModelSettings, MonitorSettings
from monitor.stuck import LockWatch
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
    run(
        Worker(
            db=db,
            home=home,
            monitor=monitor,
            models=models,
            trainer=trainer,
            threads=exporter.threads,
            device=exporter.device,
            precision=exporter.precision,
            stop=stop,
        )
    )


def check_monitor(monitor: MonitorSettings) -> None:
    """Raise BadSchedule, UnknownChannel or UnusableChannel for settings with which no monitor could run."""
    check_urls([url.get_secret_value() for url in own_channels(monitor).values()], options(monitor))
    for text in filter(None, (monitor.check, monitor.retrain, monitor.clean)):
        parse(text, monitor.time_zone)


def run(worker: Worker) -> None:
    """Lead or stand by, and work, until the worker's `stop`; then let go of the job and of the lease."""
    ticking = start_clock(
        worker.tick, worker.tell, worker.unblock, every_s=min(0.5, worker.monitor.lease_s / 6)
    )
    retrains = Thread(target=worker.loop, args=("jobs", worker.work_job), name="retrains")
    retrains.start()
    try:
        worker.loop("slots", worker.work_slot)
    finally:
        worker.stop.set()
        retrains.join()
        ticking.shutdown()
        worker.sender.close()
        lease.release(worker.db, lease.LEADER, worker.holder)


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process's share of the work."""

    db: Engine
    home: Path
    monitor: MonitorSettings
    models: Callable[[str], ModelSettings]
    trainer: TrainerSettings
    threads: int = 2  # of the replay that registers a version
    device: Device = "cpu"  # of the same
    precision: Precision = "auto"  # of the same
    stop: Event = field(default_factory=Event)
    holder: str = field(default_factory=lease.new_holder)
    epoch: int | None = None
    renewed: float = float("-inf")  # on the monotonic clock
    locks: LockWatch = field(init=False)
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        self.locks = LockWatch(self.db, self.holder, patience_s=self.monitor.lease_s)
        self.sender = Sender(db=self.db, settings=self.monitor, holder=self.holder, stop=self.stop)

    def lead(self) -> None:
        """Renew or take the lease; as leader insert due slots."""
        if time.monotonic() - self.renewed >= self.monitor.lease_s / 3:
            asked = time.monotonic()
            self.epoch = lease.acquire(self.db, lease.LEADER, self.holder, lease_s=self.monitor.lease_s)
            self.renewed = asked
        if self.epoch is not None:
            schedule.tick(self.db, self.rules(), holder=self.holder, epoch=self.epoch)

    def rules(self) -> dict[str, Rule]:
        """The schedules of every registered model, and the one that they share."""
        kinds = {"check": self.monitor.check, "retrain": self.monitor.retrain}
        named = {
            f"{kind}:{model}": text for model in registry.models(self.db) for kind, text in kinds.items()
        }
        named["clean"] = self.monitor.clean
        return {name: parse(text, self.monitor.time_zone) for name, text in named.items() if text}

    def work_slot(self) -> bool:
        """Do one due slot; returns whether there was one."""
        slot = schedule.claim_slot(self.db, self.holder, lease_s=self.monitor.job_lease_s)
        if slot is None:
            return False
        error = self._guard("slot", f"{slot.schedule}@{slot.due_at:.0f}", lambda: self._keep_and_do(slot))
        with lease.brief(self.db) as connection:
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
            device=self.device,
            precision=self.precision,
            stop=self.stop,
        )

    def _keep_and_do(self, slot: Slot) -> None:
        lease_s = self.monitor.job_lease_s
        with lease.kept(lambda: schedule.keep_slot(self.db, slot, lease_s=lease_s), every_s=lease_s / 4):
            self._do(slot)

    def _do(self, slot: Slot) -> None:
        kind, _, model = slot.schedule.partition(":")
        if kind == "clean":
            clean(self.db, self.home, self.monitor, now=database_now(self.db))
            return
        settings = self.models(model)
        if kind == "check":
            try:
                run_check(self.db, self.home, model, settings, self.monitor)
            finally:  # a harmful canary must be judged whatever else fails
                rollout.advance(self.db, model, settings, now=database_now(self.db))
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

    def tell(self) -> None:
        """What the clock calls beside it, so that a slow channel cannot cost the lease."""
        self._guard("loop", "tell", self._tell)

    def unblock(self) -> None:
        """What the clock calls, too: a stopped monitor must not keep the others from writing."""
        self._guard("loop", "unblock", lambda: self.locks.look(time.monotonic()))

    def _tell(self) -> None:
        if self.epoch is None:
            return
        with self.db.connect() as connection:  # one that was stopped for long still thinks that it leads
            leads = lease.holds(connection, lease.LEADER, self.holder, self.epoch)
        if leads:
            self.sender.beat(self.epoch)

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
