"""What calls again and again: APScheduler as a clock and nothing else.

A job store of APScheduler is not used: shared by processes it fires twice, and it holds pickles. When slots
are due is decided by the database's clock (schedule.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger


def start_clock(*steps: Callable[[], None], every_s: float) -> BackgroundScheduler:
    """Call each step in a thread every `every_s` seconds until the returned scheduler is shut down.

    A step that takes longer than that delays itself only. A machine's clock that jumps, either way, does not.
    """
    # A slow step is no news: `maximum number of running instances reached` at each beat would be.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)
    clock = _Clock(timezone="UTC")
    for step in steps:
        clock.add_job(step, _Again(every_s), max_instances=1, coalesce=True, misfire_grace_time=None)
    clock.start()
    return clock


class _Again(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no type information
    """`period_s` after the last call: APScheduler's interval counts all the periods that a jump skipped."""

    def __init__(self, period_s: float) -> None:
        self.period = timedelta(seconds=period_s)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:  # noqa: ARG002
        return now + self.period


class _Clock(BackgroundScheduler):  # type: ignore[misc]
    """Waits for no wall time that lies further ahead than a period: then the wall clock was set back."""

    def _process_jobs(self) -> float | None:
        now = datetime.now(UTC)
        for job in self.get_jobs():
            if job.next_run_time is not None and job.next_run_time > now + 2 * job.trigger.period:
                job.modify(next_run_time=now)
        wait: float | None = super()._process_jobs()
        # Bounded too: the clock may be set back after `now` was read.
        return min([wait, *(job.trigger.period.total_seconds() for job in self.get_jobs())]) if wait else wait
