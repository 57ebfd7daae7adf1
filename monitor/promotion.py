"""What follows from a verdict: the champion switched or the challenger rejected, recorded, the job ended.

Each is one transaction: all of it or nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine

from exporter import registry
from exporter.database import lock_order
from exporter.errors import ChampionError, TrialError
from monitor import jobs, records, rollout
from monitor.asking import DECISIONS
from monitor.causes import settle
from monitor.errors import MonitorError
from monitor.lease import again, brief
from monitor.records import Case, Outcome


class OvertakenError(MonitorError):
    """The champion changed while the job ran."""

    def __init__(self, model: str, parent: str) -> None:
        super().__init__(
            f"{parent} is no longer the champion of {model!r}: the verdict says nothing about the new one."
        )


def act(db: Engine, case: Case, *, now: float | None) -> dict[str, Any]:
    """Promote, put on trial or reject as the verdict says; returns what the job keeps. `now`: of a backtest.

    Raises JobLost where another attempt owns the job; then nothing has changed.
    """
    if not case.verdict.promote:
        return again(lambda: _reject(db, case, "refused", now=now))
    try:
        return again(lambda: _promote(db, case, now=now))
    except OvertakenError as overtaken:
        message = str(overtaken)
        return again(lambda: _reject(db, case, "overtaken", message, now=now))


def _promote(db: Engine, case: Case, *, now: float | None) -> dict[str, Any]:
    with brief(db) as connection:
        lock_order(connection, DECISIONS)  # a check that is being written must not open episodes after it
        return _switch(db, connection, case, now=now)


def _switch(db: Engine, connection: Connection, case: Case, *, now: float | None) -> dict[str, Any]:
    """End the job; switch the champion, resolve its episodes and end its pager, or put it on trial first."""
    model = case.job.model
    if case.settings.rollout:
        kept = _close(connection, case, "on trial", now=now)
        try:
            rollout.begin(connection, model, case.version, case.parent, case.settings)
        except TrialError as refused:
            raise OvertakenError(model, case.parent) from refused
        return kept
    kept = _close(connection, case, "promoted", now=now)
    switched = registry.promote(
        db,
        model,
        case.version,
        expected=case.parent,
        reason=f"job {case.job.id}: " + " ".join(case.verdict.reasons),
        actor="monitor",
        connection=connection,
    )
    if not switched:
        raise OvertakenError(model, case.parent)
    settle(connection, model, reason=f"{case.version} was proven and promoted", now=case.at)
    return kept


def _reject(db: Engine, case: Case, outcome: Outcome, *more: str, now: float | None) -> dict[str, Any]:
    with brief(db) as connection:
        kept = _close(connection, case, outcome, *more, now=now)
        with suppress(ChampionError):  # a person has promoted it meanwhile
            registry.reject(db, case.job.model, case.version, connection=connection)
    return kept


def _close(
    connection: Connection, case: Case, outcome: Outcome, *more: str, now: float | None
) -> dict[str, Any]:
    """Chain the record and end the job with what it keeps of it; JobLost undoes both."""
    kept = {
        "promote": outcome in ("promoted", "on trial"),
        "outcome": outcome,
        "reasons": [*case.verdict.reasons, *case.notes, *more],
        "numbers": case.verdict.numbers,
        "labels_used": case.labels_used,
        "record": records.append(connection, records.describe(connection, case, outcome)),
    }
    jobs.finish(connection, case.job, verdict=kept, now=now)
    return kept
