"""Rows of the database that are over: told notices, ended silences and sessions, old audit, lost monitors."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, func, select, tuple_

from exporter.tables import new_classes
from monitor.lease import brief
from monitor.settings import MonitorSettings
from monitor.tables import audit, deliveries, monitors, notices, sessions, silences

_BATCH = 1000  # rows of one transaction: writers wait for no longer than that takes
_DAY_S = 86_400.0


def clean_expired(db: Engine, monitor: MonitorSettings, *, now: float) -> int:
    """Delete them; returns how many rows. A monitor that still runs enlists again when it next looks."""
    told = now - monitor.keep_notices
    old = (
        (silences, silences.c.ends_at < told),
        (new_classes, new_classes.c.last_at < told),
        (audit, audit.c.at < now - monitor.keep_audit),
        (sessions, sessions.c.expires_at < now),
        (monitors, monitors.c.started_at < now - _DAY_S),
    )
    return clean_notices(db, before=told) + sum(_delete(db, table, which) for table, which in old)


def clean_notices(db: Engine, *, before: float) -> int:
    """Delete notices of before, with their deliveries, where nothing is owed; returns how many notices.

    The newest of a model and those of its group stay: what comes next follows from them.
    """
    newest = select(func.max(notices.c.id)).group_by(notices.c.model)
    groups = select(notices.c.group_id).where(notices.c.id.in_(newest))
    unfinished = select(deliveries.c.channel).where(
        deliveries.c.notice_id == notices.c.id, deliveries.c.state.in_(("waiting", "sending"))
    )
    over = and_(
        notices.c.created_at < before,
        notices.c.routed_at.is_not(None),
        notices.c.group_id.not_in(groups),
        ~unfinished.exists(),
    )
    gone = 0
    while True:
        with brief(db) as connection:
            ids = list(connection.scalars(select(notices.c.id).where(over).limit(_BATCH)))
            connection.execute(delete(deliveries).where(deliveries.c.notice_id.in_(ids)))
            connection.execute(delete(notices).where(notices.c.id.in_(ids)))
        gone += len(ids)
        if len(ids) < _BATCH:
            return gone


def _delete(db: Engine, table: Table, which: ColumnElement[bool]) -> int:
    key = tuple_(*table.primary_key)
    gone = 0
    while True:
        with brief(db) as connection:
            batch = select(*table.primary_key).where(which).limit(_BATCH)
            removed = connection.execute(delete(table).where(key.in_(batch))).rowcount
        gone += removed
        if removed < _BATCH:
            return gone
