"""The outbox: each notice is delivered to each channel, whatever process dies when.

A delivery is claimed (lease, attempt number) before it is sent and marked after. Where a process dies in
between nobody can know whether the receiver took it, and losing an alert is worse than repeating one: it is
sent again once its lease has ended, with the same key. So each delivery happens at least once, and exactly
once at a receiver that keeps keys (`webhook-id` of our webhooks, the Message-ID of a mail); to any other the
repetition says that it may be one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, exists, or_, select, update

from exporter.database import upsert
from monitor.episodes import list_open
from monitor.errors import MonitorError
from monitor.lease import LEADER, brief, hold
from monitor.notices import Notice, newest, to_notice
from monitor.silences import silenced
from monitor.tables import deliveries, notices

GIVE_UP_S = 7 * 86400.0
_BACK_OFF_S = 10.0
_LONGEST_BACK_OFF_S = 1800.0


class DeliveryLost(MonitorError):
    """This attempt no longer owns the delivery."""

    def __init__(self, notice: int, channel: str) -> None:
        super().__init__(f"Notice {notice} to {channel!r} was taken over by another process.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One notice in the hands of one sender; `doubtful`: an attempt before may have been taken."""

    notice: Notice
    channel: str
    attempt: int
    doubtful: bool


def back_off_s(attempt: int, jitter: float) -> float:
    """Seconds to wait after the attempt with this number failed; `jitter` in [0, 1) takes up to half of it.

    Source: Brooker (2015), "Exponential backoff and jitter", equal jitter.

    >>> [back_off_s(attempt, 0.0) for attempt in (1, 2, 3, 20)], back_off_s(1, 0.5)
    ([10.0, 20.0, 40.0, 1800.0], 7.5)
    """
    longest = min(_BACK_OFF_S * 2.0 ** (min(attempt, 20) - 1), _LONGEST_BACK_OFF_S)
    return longest * (1 - jitter / 2)


def unrouted(connection: Connection) -> list[Notice]:
    """Notices that have no deliveries yet, oldest first."""
    statement = select(notices).where(notices.c.routed_at.is_(None)).order_by(notices.c.id)
    return [to_notice(row) for row in connection.execute(statement).mappings()]


def route(
    db: Engine,
    notice: Notice,
    content: Mapping[str, Any] | None,
    channels: Sequence[str],
    *,
    holder: str,
    epoch: int,
    now: float,
) -> bool:
    """Freeze what the notice says and owe it to every channel, as leader; returns whether this did it."""
    with brief(db) as connection:
        if not hold(connection, LEADER, holder, epoch):
            return False
        same = and_(notices.c.id == notice.id, notices.c.routed_at.is_(None))
        written = update(notices).where(same).values(content=content, routed_at=now)
        if connection.execute(written).rowcount != 1:
            return False
        _owe(connection, notice.id, channels, now)
    return True


def adopt(db: Engine, channels: Collection[str], *, holder: str, epoch: int, now: float) -> int:
    """Skip what is owed to channels that are no longer configured; a new leader's first step.

    Where such a channel never took the newest notice of a model that still fires (its URL was wrong, say),
    today's channels that do not have it get it. Returns how many deliveries were skipped.
    """
    gone = deliveries.c.channel.not_in(channels)
    with brief(db) as connection:
        if not hold(connection, LEADER, holder, epoch):
            return 0
        orphans = set(
            connection.scalars(select(deliveries.c.notice_id).where(gone, _owed(), deliveries.c.attempt > 0))
        )
        skipped = _skip(connection, gone, "the channel is no longer configured", now)
        still = {one.model for one in list_open(connection) if one.state == "firing"}
        for model, notice in newest(connection).items():
            if model in still and notice.id in orphans:
                _owe(connection, notice.id, sorted(channels), now)
    return skipped


def due_channels(connection: Connection, *, now: float) -> list[str]:
    """Channels to which something can be sent now."""
    return list(connection.scalars(_ready(select(deliveries.c.channel).distinct(), now)))


def claim(db: Engine, channel: str, worker: str, *, lease_s: float, now: float) -> Delivery | None:
    """Take the oldest delivery of a channel that is due, or whose sender died; None where there is none.

    One that a newer notice of its model follows is skipped: the newer one says where things stand.
    """
    oldest = _ready(select(deliveries.c.notice_id, deliveries.c.state, deliveries.c.attempt), now)
    oldest = oldest.where(deliveries.c.channel == channel).order_by(deliveries.c.notice_id).limit(1)
    with brief(db) as connection:
        _skip(connection, and_(deliveries.c.channel == channel, _followed()), "a newer notice follows", now)
        found = connection.execute(oldest.with_for_update(skip_locked=True, of=deliveries)).first()
        if found is None:
            return None
        attempt = found.attempt + 1
        connection.execute(
            update(deliveries)
            .where(deliveries.c.notice_id == found.notice_id, deliveries.c.channel == channel)
            .values(state="sending", attempt=attempt, worker=worker, lease_until=now + lease_s)
        )
        row = connection.execute(select(notices).where(notices.c.id == found.notice_id)).mappings().one()
    return Delivery(
        notice=to_notice(row), channel=channel, attempt=attempt, doubtful=found.state == "sending"
    )


def keep(db: Engine, delivery: Delivery, *, lease_s: float, now: float) -> None:
    """Renew the lease of a delivery in work; DeliveryLost when another sender has it."""
    with brief(db) as connection:
        _write(connection, delivery, lease_until=now + lease_s)


def finish(db: Engine, delivery: Delivery, *, now: float) -> None:
    """The receiver took it. Raises DeliveryLost."""
    with brief(db) as connection:
        _write(connection, delivery, state="sent", error=None, lease_until=None, finished_at=now)


def retry(db: Engine, delivery: Delivery, error: str, *, jitter: float, now: float) -> bool:
    """Wait and try again, or give up after a week; returns which. Raises DeliveryLost."""
    goes_on = now - delivery.notice.created_at < GIVE_UP_S
    values: dict[str, Any] = {"state": "failed", "finished_at": now}
    if goes_on:
        values = {"state": "waiting", "not_before": now + back_off_s(delivery.attempt, jitter)}
    with brief(db) as connection:
        _write(connection, delivery, error=error, lease_until=None, **values)
    return goes_on


def list_deliveries(
    connection: Connection, model: str | None = None, *, limit: int = 100
) -> list[dict[str, Any]]:
    """The newest deliveries first, with the notice that they carry."""
    carried = (notices.c[name] for name in ("model", "kind", "causes", "created_at"))
    statement = (
        select(deliveries, *carried)
        .join(notices, notices.c.id == deliveries.c.notice_id)
        .order_by(deliveries.c.notice_id.desc(), deliveries.c.channel)
        .limit(limit)
    )
    if model is not None:
        statement = statement.where(notices.c.model == model)
    return [dict(row) for row in connection.execute(statement).mappings()]


def _ready(statement: Any, now: float) -> Any:
    """Restrict to deliveries that may be sent now; bad news of silenced models may not."""
    waited = or_(deliveries.c.not_before <= now, deliveries.c.not_before > now + 2 * _LONGEST_BACK_OFF_S)
    abandoned = and_(deliveries.c.state == "sending", deliveries.c.lease_until <= now)
    audible = or_(notices.c.kind == "resolved", notices.c.model.not_in(silenced(now)))
    return statement.join(notices, notices.c.id == deliveries.c.notice_id).where(
        or_(and_(deliveries.c.state == "waiting", waited), abandoned), audible
    )


def _followed() -> ColumnElement[bool]:
    mine, newer, theirs = notices.alias("mine"), notices.alias("newer"), deliveries.alias("theirs")
    return (
        exists()
        .where(
            mine.c.id == deliveries.c.notice_id, newer.c.group_id == mine.c.group_id, newer.c.id > mine.c.id
        )
        .where(theirs.c.notice_id == newer.c.id, theirs.c.channel == deliveries.c.channel)
    )


def _owed() -> ColumnElement[bool]:
    return deliveries.c.state.in_(("waiting", "sending"))


def _skip(connection: Connection, which: ColumnElement[bool], why: str, now: float) -> int:
    """What is being sent at this moment is left to its sender."""
    in_work = and_(deliveries.c.state == "sending", deliveries.c.lease_until > now)
    statement = update(deliveries).where(which, _owed(), ~in_work)
    skipped: int = connection.execute(
        statement.values(state="skipped", error=why, lease_until=None, finished_at=now)
    ).rowcount
    return skipped


def _owe(connection: Connection, notice: int, channels: Sequence[str], now: float) -> None:
    rows = [
        {"notice_id": notice, "channel": name, "state": "waiting", "attempt": 0, "not_before": now}
        for name in channels
    ]
    if rows:
        statement = upsert(deliveries, connection.dialect.name).on_conflict_do_nothing()
        connection.execute(statement, rows)


def _write(connection: Connection, delivery: Delivery, **values: Any) -> None:
    owned = and_(
        deliveries.c.notice_id == delivery.notice.id,
        deliveries.c.channel == delivery.channel,
        deliveries.c.attempt == delivery.attempt,
        deliveries.c.state == "sending",
    )
    if connection.execute(update(deliveries).where(owned).values(**values)).rowcount != 1:
        raise DeliveryLost(delivery.notice.id, delivery.channel)
