"""The queue of retrains in the database: claimed with a lease, fenced by the attempt, one active a model.

Every write of a worker names the attempt that it claimed; a worker that was replaced meets no row and stops.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    and_,
    case,
    null,
    or_,
    select,
    true,
    update,
)

from exporter.database import NOW, upsert
from monitor.job import Job, JobLost, JobRefused, UnknownJob
from monitor.label_counts import labels_of_job
from monitor.lease import brief, work_expired
from monitor.tables import JobState, jobs

Trigger = Literal["page", "threshold", "accuracy", "labels", "schedule", "manual"]
__all__ = ["Job", "JobLost", "JobRefused", "UnknownJob"]
_BACK_OFF_S = 5.0
_LONGEST_BACK_OFF_S = 900.0


def enqueue(
    connection: Connection,
    model: str,
    *,
    trigger: Trigger,
    dedupe_key: str,
    base_version: str | None,
    max_attempts: int = 3,
    episode_id: int | None = None,
    now: float | None = None,
) -> int:
    """Queue a retrain and return its id; JobRefused where its key was used or the model has an active job.

    `now` is when it was asked for, by default the database's clock (a backtest has a clock of its own).
    """
    row = {
        "model": model,
        "trigger": trigger,
        "dedupe_key": dedupe_key,
        "state": "queued",
        "attempt": 0,
        "max_attempts": max_attempts,
        "not_before": NOW,
        "cancel_requested": False,
        "episode_id": episode_id,
        "base_version": base_version,
        "labels": labels_of_job(connection, model, base_version, episode_id, at=now),
        "progress": {},
        "created_at": NOW if now is None else now,
        "updated_at": NOW,
    }
    statement = upsert(jobs, connection.dialect.name).values(**row).on_conflict_do_nothing()
    job: int | None = connection.execute(statement.returning(jobs.c.id)).scalar()
    if job is None:
        raise JobRefused(model, _conflict(connection, model, dedupe_key))
    return job


def claim(db: Engine, worker: str, *, lease_s: float, only: int | None = None) -> Job | None:
    """Take the oldest job that is due or whose worker died (`only`: this one); None when there is none."""
    waited = or_(jobs.c.not_before <= NOW, jobs.c.not_before > NOW + 2 * _LONGEST_BACK_OFF_S)
    abandoned = and_(jobs.c.state == "running", work_expired(jobs.c.lease_until, lease_s))
    due = or_(and_(jobs.c.state == "queued", waited), abandoned)
    wanted = true() if only is None else jobs.c.id == only
    oldest = select(jobs.c.id).where(due, wanted).order_by(jobs.c.not_before, jobs.c.id).limit(1)
    with db.connect() as connection:  # whoever polls takes no write lock
        if connection.execute(oldest).first() is None:
            return None
    with brief(db) as connection:
        _end_abandoned(connection, abandoned)
        statement = (
            update(jobs)
            .where(jobs.c.id == oldest.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state="running",
                attempt=jobs.c.attempt + 1,
                worker=worker,
                lease_until=NOW + lease_s,
                updated_at=NOW,
            )
            .returning(jobs)
        )
        row = connection.execute(statement).mappings().first()
    return None if row is None else _job(row)


def heartbeat(db: Engine, job: Job, *, lease_s: float, progress: dict[str, Any] | None = None) -> bool:
    """Renew the lease; returns whether a cancel was asked for. JobLost when another attempt owns the job."""
    values: dict[str, Any] = {"lease_until": NOW + lease_s, "updated_at": NOW}
    if progress is not None:
        values["progress"] = progress
    with brief(db) as connection:
        statement = update(jobs).where(_owned(job)).values(**values).returning(jobs.c.cancel_requested)
        cancel: bool | None = connection.execute(statement).scalar()
    if cancel is None:
        raise JobLost(job.id, job.attempt)
    return cancel


def record_candidate(connection: Connection, job: Job, version: str, progress: dict[str, Any]) -> None:
    """Remember the registered version, so that a later attempt judges it instead of training again."""
    _write(connection, job, candidate=version, progress=progress)


def finish(
    connection: Connection, job: Job, *, verdict: dict[str, Any] | None, now: float | None = None
) -> None:
    """End the job with its verdict; put this first in the transaction that acts on the verdict."""
    at = NOW if now is None else now
    _write(connection, job, state="done", verdict=verdict, finished_at=at, lease_until=None, error=None)


def fail(connection: Connection, job: Job, error: str, *, now: float | None = None) -> None:
    """End the job for good."""
    at = NOW if now is None else now
    _write(connection, job, state="failed", error=error, finished_at=at, lease_until=None)


def end_cancelled(connection: Connection, job: Job) -> None:
    """End a job whose cancellation was asked for."""
    _write(connection, job, state="cancelled", finished_at=NOW, lease_until=None)


def retry(connection: Connection, job: Job, error: str, *, now: float | None = None) -> bool:
    """Queue the job again after a back-off, or fail it when its attempts are spent; returns which.

    Where a cancel was asked for, the job ends as cancelled instead of being queued.
    """
    if job.attempt >= job.max_attempts:
        fail(connection, job, error, now=now)
        return False
    due = NOW + back_off_s(job.attempt)
    return _requeue(connection, job, error=error, not_before=due)


def give_back(connection: Connection, job: Job) -> None:
    """Queue the job again at once, unless it was cancelled; the attempt does not count."""
    _requeue(connection, job, not_before=NOW, max_attempts=jobs.c.max_attempts + 1)


def back_off_s(attempt: int) -> float:
    """Seconds to wait after the attempt with this number failed.

    >>> [back_off_s(attempt) for attempt in (1, 2, 3, 20)]
    [5.0, 20.0, 80.0, 900.0]
    """
    return min(_BACK_OFF_S * 4.0 ** (attempt - 1), _LONGEST_BACK_OFF_S)


def cancel(db: Engine, job: int) -> JobState:
    """End a queued job, ask a running one to stop; returns its state. Raises UnknownJob."""
    queued = jobs.c.state == "queued"
    statement = (
        update(jobs)
        .where(jobs.c.id == job, jobs.c.state.in_(("queued", "running")))
        .values(
            cancel_requested=True,
            state=case((queued, "cancelled"), else_=jobs.c.state),
            finished_at=case((queued, NOW), else_=null()),
            updated_at=NOW,
        )
        .returning(jobs.c.state)
    )
    with db.begin() as connection:
        state: JobState | None = connection.execute(statement).scalar()
    if state is None:
        raise UnknownJob(job)
    return state


def list_jobs(db: Engine, model: str | None = None, *, limit: int = 50) -> list[Job]:
    """The newest jobs first."""
    statement = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(jobs.c.model == model)
    with db.connect() as connection:
        return [_job(row) for row in connection.execute(statement).mappings()]


def _conflict(connection: Connection, model: str, dedupe_key: str) -> str:
    if connection.execute(select(jobs.c.id).where(jobs.c.dedupe_key == dedupe_key)).first():
        return f"the same cause, {dedupe_key!r}, was answered before"
    active = connection.execute(
        select(jobs.c.id).where(jobs.c.model == model, jobs.c.state.in_(("queued", "running")))
    ).scalar()
    return f"job {active} of this model is queued or running"


def _requeue(connection: Connection, job: Job, **values: Any) -> bool:
    cancelled = jobs.c.cancel_requested
    _write(
        connection,
        job,
        state=case((cancelled, "cancelled"), else_="queued"),
        finished_at=case((cancelled, NOW), else_=null()),
        lease_until=None,
        **values,
    )
    return not connection.execute(select(cancelled).where(jobs.c.id == job.id)).scalar_one()


def _end_abandoned(connection: Connection, abandoned: ColumnElement[bool]) -> None:
    """End what died too often or died while it was being cancelled: nobody else will."""
    spent = or_(jobs.c.attempt >= jobs.c.max_attempts, jobs.c.cancel_requested)
    ended = select(jobs.c.id).where(abandoned, spent).with_for_update(skip_locked=True)
    connection.execute(
        update(jobs)
        .where(jobs.c.id.in_(ended))
        .values(
            state=case((jobs.c.cancel_requested, "cancelled"), else_="failed"),
            error="the worker died or stopped answering",
            finished_at=NOW,
            updated_at=NOW,
        )
    )


def _owned(job: Job) -> ColumnElement[bool]:
    return and_(jobs.c.id == job.id, jobs.c.attempt == job.attempt, jobs.c.state == "running")


def _write(connection: Connection, job: Job, **values: Any) -> None:
    if connection.execute(update(jobs).where(_owned(job)).values(updated_at=NOW, **values)).rowcount != 1:
        raise JobLost(job.id, job.attempt)


def _job(row: RowMapping) -> Job:
    return Job(**row)
