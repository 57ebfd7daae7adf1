"""A retrain's row, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitor.errors import MonitorError
from monitor.tables import JobState


class JobRefused(MonitorError):
    """The job was not queued."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"No retrain of {model!r} was queued: {reason.rstrip('.')}.")
        self.model, self.reason = model, reason


class JobLost(MonitorError):
    """This attempt no longer owns the job."""

    def __init__(self, job: int, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} of job {job} was replaced or ended by another process: stop.")
        self.job, self.attempt = job, attempt


class UnknownJob(MonitorError):
    """No such job, or it ended already."""

    def __init__(self, job: int) -> None:
        super().__init__(f"Job {job} is not queued or running. `trueup jobs` lists the jobs.")
        self.job = job


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs`."""

    id: int
    model: str
    trigger: str
    dedupe_key: str
    state: JobState
    attempt: int
    max_attempts: int
    not_before: float
    worker: str | None
    lease_until: float | None
    cancel_requested: bool
    episode_id: int | None
    base_version: str | None
    candidate: str | None
    progress: dict[str, Any]
    verdict: dict[str, Any] | None
    error: str | None
    created_at: float
    updated_at: float
    finished_at: float | None
    labels: int | None = None  # that it had to learn from
