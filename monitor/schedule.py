"""Due times as rows: the leader inserts every one since the last, workers claim them; APScheduler only ticks.

A job store of APScheduler is not used: shared by processes it fires twice, and it holds pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    Integer,
    and_,
    func,
    literal,
    or_,
    select,
    update,
)

from exporter.database import NOW, clock, upsert
from monitor.cron import Rule
from monitor.errors import MonitorError
from monitor.lease import LEADER, leads
from monitor.tables import due_slots

_LATE_S = 300.0  # slots missed for longer than this collapse to the newest


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


def start_clock(tick: Callable[[], None], *, every_s: float) -> BackgroundScheduler:
    """Call `tick` in a thread every `every_s` seconds until the returned scheduler is shut down."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(
        tick, "interval", seconds=every_s, max_instances=1, coalesce=True, misfire_grace_time=None
    )
    scheduler.start()
    return scheduler


def tick(
    db: Engine, schedules: Mapping[str, Rule], *, holder: str, epoch: int, late_s: float = _LATE_S
) -> int:
    """Insert what became due on the database's clock since each schedule's last slot; returns how many rows.

    Nothing is inserted once the reign (holder, epoch) has ended: the condition is in the statement itself.
    """
    inserted = 0
    with db.begin() as connection:
        now = clock(connection)
        last = _last(connection, list(schedules))
        for schedule, rule in schedules.items():
            if schedule not in last:  # the first sight of a schedule starts it; nothing was due before
                inserted += _insert(connection, schedule, now, "done", holder, epoch)
                continue
            for due in missed(rule, last[schedule], now, late_s):
                inserted += _insert(connection, schedule, due, "queued", holder, epoch)
    return inserted


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
    """Take the oldest slot that waits or whose worker died."""
    waiting = or_(
        due_slots.c.state == "queued", and_(due_slots.c.state == "running", due_slots.c.lease_until < NOW)
    )
    with db.begin() as connection:
        oldest = select(due_slots.c.schedule, due_slots.c.due_at).where(waiting)
        oldest = oldest.order_by(due_slots.c.due_at, due_slots.c.schedule).limit(1)
        found = connection.execute(oldest.with_for_update(skip_locked=True)).first()
        if found is None:
            return None
        statement = (
            update(due_slots)
            .where(due_slots.c.schedule == found.schedule, due_slots.c.due_at == found.due_at)
            .values(
                state="running", attempt=due_slots.c.attempt + 1, worker=worker, lease_until=NOW + lease_s
            )
            .returning(due_slots.c.schedule, due_slots.c.due_at, due_slots.c.attempt)
        )
        return Slot(**connection.execute(statement).mappings().one())


def keep_slot(db: Engine, slot: Slot, *, lease_s: float) -> None:
    """Renew the lease of a slot in work; SlotLost when another worker has it."""
    with db.begin() as connection:
        _write(connection, slot, lease_until=NOW + lease_s)


def finish_slot(connection: Connection, slot: Slot, *, error: str | None = None) -> None:
    """End the slot, done or failed; in the transaction of its effect it makes that effect happen once."""
    state = "done" if error is None else "failed"
    _write(connection, slot, state=state, error=error, lease_until=None)


def _insert(connection: Connection, schedule: str, due_at: float, state: str, holder: str, epoch: int) -> int:
    values = (literal(schedule), literal(due_at, Double), literal(state), literal(0), literal(epoch, Integer))
    row = select(*values).where(leads(LEADER, holder, epoch))
    columns = ["schedule", "due_at", "state", "attempt", "epoch"]
    statement = upsert(due_slots, connection.dialect.name).from_select(columns, row)
    inserted = statement.on_conflict_do_nothing().returning(due_slots.c.due_at)
    return len(connection.execute(inserted).all())


def _last(connection: Connection, schedules: list[str]) -> dict[str, float]:
    statement = (
        select(due_slots.c.schedule, func.max(due_slots.c.due_at))
        .where(due_slots.c.schedule.in_(schedules))
        .group_by(due_slots.c.schedule)
    )
    return {schedule: due_at for schedule, due_at in connection.execute(statement)}


def _write(connection: Connection, slot: Slot, **values: Any) -> None:
    owned: ColumnElement[bool] = and_(
        due_slots.c.schedule == slot.schedule,
        due_slots.c.due_at == slot.due_at,
        due_slots.c.attempt == slot.attempt,
        due_slots.c.state == "running",
    )
    if connection.execute(update(due_slots).where(owned).values(**values)).rowcount != 1:
        raise SlotLost(slot)
