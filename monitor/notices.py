"""What people must hear of a model: one notice for a change of all its episodes, however many causes it has.

A notice is written in the transaction that changed the episodes. It follows from what fires and from the
newest notice alone, so that whoever looks again (`sweep`) finds nothing to add, or what a race left out.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, func, select

from exporter.database import lock_order, upsert
from monitor import episodes
from monitor.asking import DECISIONS
from monitor.episodes import Episode
from monitor.lease import LEADER, brief, hold
from monitor.silences import is_silenced, silenced
from monitor.tables import NoticeKind, notices

LOSS = frozenset({"accuracy", "drift"})  # causes that cost accuracy: one more of them is told at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One row of `notices`."""

    id: int
    model: str
    version: str
    kind: NoticeKind
    group_id: int
    causes: list[str]
    dedupe_key: str
    key: str
    created_at: float
    content: dict[str, Any] | None
    routed_at: float | None


def due_kind(
    last: Notice | None, firing: Collection[str], *, now: float, repeat_s: float, quiet: bool
) -> NoticeKind | None:
    """What must be told, by the newest notice and the causes that fire; `quiet`: the model is silenced.

    A cause that joins a firing group waits for its next repeat, unless it is the first that costs accuracy.

    >>> due_kind(None, ["class_mix"], now=0.0, repeat_s=60.0, quiet=False)
    'firing'
    >>> due_kind(None, [], now=0.0, repeat_s=60.0, quiet=False) is None
    True
    """
    told = last is not None and last.kind != "resolved"
    if not firing:
        return "resolved" if told else None
    if quiet:
        return None
    if last is None or not told:
        return "firing"
    if LOSS.intersection(firing) and not LOSS.intersection(last.causes):
        return "worse"
    return "repeat" if now >= last.created_at + repeat_s else None


def note(connection: Connection, model: str, *, now: float, repeat_s: float = math.inf) -> int | None:
    """Write the notice that is due, if any; call it in the transaction that moved the model's episodes."""
    firing = [one for one in episodes.list_open(connection, model) if one.state == "firing"]
    last = newest(connection, [model]).get(model)
    quiet = is_silenced(connection, model, now)
    kind = due_kind(last, [one.cause for one in firing], now=now, repeat_s=repeat_s, quiet=quiet)
    return None if kind is None else _write(connection, model, kind, last, firing, now)


def sweep(db: Engine, *, holder: str, epoch: int, now: float, repeat_s: float) -> int:
    """Write what time makes due (repeats, the end of a silence) as leader; returns how many notices."""
    with db.connect() as connection:
        due = _due(connection, now, repeat_s)
    if not due:
        return 0
    with brief(db) as connection:
        lock_order(connection, DECISIONS)
        if not hold(connection, LEADER, holder, epoch):
            return 0
        written = [note(connection, model, now=now, repeat_s=repeat_s) for model in due]
    return sum(one is not None for one in written)


def newest(connection: Connection, models: Sequence[str] | None = None) -> dict[str, Notice]:
    """The newest notice of each model (of these)."""
    ids = select(func.max(notices.c.id)).group_by(notices.c.model)
    if models is not None:
        ids = ids.where(notices.c.model.in_(models))
    found = connection.execute(select(notices).where(notices.c.id.in_(ids))).mappings()
    return {row["model"]: to_notice(row) for row in found}


def to_notice(row: RowMapping) -> Notice:
    """Make a row of `notices` a Notice."""
    return Notice(**{name: row[name] for name in notices.c.keys()})  # noqa: SIM118  # of a table, not a dict


def _due(connection: Connection, now: float, repeat_s: float) -> list[str]:
    firing: dict[str, list[str]] = {}
    for one in episodes.list_open(connection):
        if one.state == "firing":
            firing.setdefault(one.model, []).append(one.cause)
    last = newest(connection)
    quiet = set(connection.scalars(silenced(now)))
    return [
        model
        for model in sorted({*firing, *last})
        if due_kind(last.get(model), firing.get(model, []), now=now, repeat_s=repeat_s, quiet=model in quiet)
    ]


def _write(
    connection: Connection,
    model: str,
    kind: NoticeKind,
    last: Notice | None,
    firing: Sequence[Episode],
    now: float,
) -> int | None:
    """None where a transaction beside this one has told the same."""
    opened = last if kind != "firing" else None
    row = {
        "model": model,
        "version": firing[0].version if firing else _told(last).version,
        "kind": kind,
        "group_id": opened.group_id if opened else firing[0].id,
        "causes": sorted(one.cause for one in firing) or _told(last).causes,
        "dedupe_key": f"{model}:{last.id if last else 0}",
        "key": secrets.token_hex(16),
        "created_at": now,
    }
    statement = upsert(notices, connection.dialect.name).values(**row).on_conflict_do_nothing()
    written: int | None = connection.execute(statement.returning(notices.c.id)).scalar()
    return written


def _told(last: Notice | None) -> Notice:
    assert last is not None  # only a first notice follows none
    return last
