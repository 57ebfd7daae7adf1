"""Due times as rows: the leader inserts every one since the last, workers claim them.

Whoever polls looks first and takes the write lock only where there is something to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, or_, select, tuple_, update

from exporter.database import NOW, clock, upsert
from monitor.cron import Rule
from monitor.errors import MonitorError
from monitor.lease import LEADER, brief, hold, work_expired
from monitor.tables import due_slots

_LATE_S = 300.0  # slots missed for longer than this collapse to the newest
_MAX_ATTEMPTS = 10  # a slot that kills whoever works on it must not hold up all the others


class SlotLost(MonitorError):
    """This attempt no longer owns the slot."""

    def __init__(self, slot: Slot) -> None:
        super().__init__(f"Slot {slot.schedule!r} due at {slot.due_at} was taken over by another process.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One due time in the hands of one worker."""

    schedule: str
    due_at: float
    attempt: int


def tick(
    db: Engine, schedules: Mapping[str, Rule], *, holder: str, epoch: int, late_s: float = _LATE_S
) -> int:
    """Insert what became due on the database's clock since each schedule's last slot; returns how many rows.

    Nothing is inserted once the reign (holder, epoch) has ended.
    """
    owed = _owed(db, schedules, late_s)
    if not owed:
        return 0
    rows = [one | {"attempt": 0, "epoch": epoch} for one in owed]
    with brief(db) as connection:
        if not hold(connection, LEADER, holder, epoch):
            return 0
        statement = upsert(due_slots, connection.dialect.name).on_conflict_do_nothing()
        return len(connection.execute(statement.returning(due_slots.c.due_at), rows).all())


def missed(rule: Rule, after: float, now: float, late_s: float = _LATE_S) -> list[float]:
    """Due times in (after, now]; when any is later than `late_s`, those collapse to the newest of all.

    >>> from monitor.cron import parse
    >>> missed(parse("every 60s"), 0.0, 180.0), missed(parse("every 60s"), 0.0, 90000.0, late_s=90.0)
    ([60.0, 120.0, 180.0], [89940.0, 90000.0])
    >>> missed(parse("every 1d"), 0.0, 7 * 86400.0 + 3600.0)
    [604800.0]
    """
    fresh = list(rule.between(max(after, now - late_s), now))
    if fresh:
        return fresh
    newest = rule.newest(after, now)
    return [] if newest is None else [newest]


def claim_slot(db: Engine, worker: str, *, lease_s: float) -> Slot | None:
    """Take the oldest slot that waits or whose worker died; one that too many died of ends as failed."""
    abandoned = and_(due_slots.c.state == "running", work_expired(due_slots.c.lease_until, lease_s))
    oldest = select(due_slots.c.schedule, due_slots.c.due_at)
    oldest = oldest.where(or_(due_slots.c.state == "queued", abandoned))
    oldest = oldest.order_by(due_slots.c.due_at, due_slots.c.schedule).limit(1)
    with db.connect() as connection:
        if connection.execute(oldest).first() is None:
            return None
    with brief(db) as connection:
        _end_fatal(connection, abandoned)
        found = connection.execute(oldest.with_for_update(skip_locked=True)).first()
        if found is None:
            return None
        statement = (
            update(due_slots)
            .where(due_slots.c.schedule == found.schedule, due_slots.c.due_at == found.due_at)
            .values(
                state="running", attempt=due_slots.c.attempt + 1, worker=worker, lease_until=NOW + lease_s
            )
            .returning(due_slots.c.attempt)
        )
        return Slot(
            schedule=found.schedule,
            due_at=found.due_at,
            attempt=connection.execute(statement).scalar_one(),
        )


def keep_slot(db: Engine, slot: Slot, *, lease_s: float) -> None:
    """Renew the lease of a slot in work; SlotLost when another worker has it."""
    with brief(db) as connection:
        _write(connection, slot, lease_until=NOW + lease_s)


def finish_slot(connection: Connection, slot: Slot, *, error: str | None = None) -> None:
    """End the slot, done or failed; in the transaction of its effect it makes that effect happen once."""
    state = "done" if error is None else "failed"
    _write(connection, slot, state=state, error=error, lease_until=None)


def _owed(db: Engine, schedules: Mapping[str, Rule], late_s: float) -> list[dict[str, Any]]:
    """The slots that are not there yet; the first sight of a schedule starts it, nothing was due before."""
    with db.connect() as connection:
        now = clock(connection)
        last = _last(connection, list(schedules), now)
    owed = []
    for schedule, rule in schedules.items():
        if schedule not in last:
            owed.append({"schedule": schedule, "due_at": now, "state": "done"})
            continue
        due = missed(rule, last[schedule], now, late_s)
        owed += [{"schedule": schedule, "due_at": at, "state": "queued"} for at in due]
    return owed


def _last(connection: Connection, schedules: list[str], now: float) -> dict[str, float]:
    """The newest slot of each schedule up to now: later ones were inserted before the clock was set back."""
    statement = (
        select(due_slots.c.schedule, func.max(due_slots.c.due_at))
        .where(due_slots.c.schedule.in_(schedules), due_slots.c.due_at <= now)
        .group_by(due_slots.c.schedule)
    )
    return {schedule: due_at for schedule, due_at in connection.execute(statement)}


def _end_fatal(connection: Connection, abandoned: ColumnElement[bool]) -> None:
    fatal = select(due_slots.c.schedule, due_slots.c.due_at)
    fatal = fatal.where(abandoned, due_slots.c.attempt >= _MAX_ATTEMPTS).with_for_update(skip_locked=True)
    connection.execute(
        update(due_slots)
        .where(tuple_(due_slots.c.schedule, due_slots.c.due_at).in_(fatal))
        .values(state="failed", error=f"{_MAX_ATTEMPTS} workers died of it", lease_until=None)
    )


def _write(connection: Connection, slot: Slot, **values: Any) -> None:
    owned: ColumnElement[bool] = and_(
        due_slots.c.schedule == slot.schedule,
        due_slots.c.due_at == slot.due_at,
        due_slots.c.attempt == slot.attempt,
        due_slots.c.state == "running",
    )
    if connection.execute(update(due_slots).where(owned).values(**values)).rowcount != 1:
        raise SlotLost(slot)
