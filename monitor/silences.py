"""Silences: a person holds back a model's alerts for a while; who, until when and why stays on record.

Nothing is lost: what still fires when a silence ends is told then. Recovery is told in spite of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from monitor.errors import MonitorError
from monitor.tables import silences


class NotSilencedError(MonitorError):
    """There is nothing to end."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model!r} is not silenced. `trueup alerts silences` lists those that are.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One row of `silences`."""

    id: int
    model: str
    reason: str
    actor: str
    created_at: float
    ends_at: float
    ended_by: str | None


def silence(
    connection: Connection, model: str, *, for_s: float, reason: str, actor: str, now: float
) -> Silence:
    """Hold back a model's alerts; silences add up, the one that ends last decides."""
    row = {"model": model, "reason": reason, "actor": actor, "created_at": now, "ends_at": now + for_s}
    found = connection.execute(insert(silences).values(**row).returning(silences)).mappings().one()
    return _silence(found)


def end_silence(connection: Connection, model: str, *, actor: str, now: float) -> int:
    """End every silence of the model; returns how many there were. Raises NotSilencedError."""
    statement = update(silences).where(silences.c.model == model, silences.c.ends_at > now)
    ended: int = connection.execute(statement.values(ends_at=now, ended_by=actor)).rowcount
    if not ended:
        raise NotSilencedError(model)
    return ended


def list_silences(connection: Connection, model: str | None = None, *, limit: int = 100) -> list[Silence]:
    """The newest silences first, those that have ended too."""
    statement = select(silences).order_by(silences.c.id.desc()).limit(limit)
    if model is not None:
        statement = statement.where(silences.c.model == model)
    return [_silence(row) for row in connection.execute(statement).mappings()]


def silenced(now: float) -> Select[str]:
    """Models that are silenced at `now`; usable inside statements."""
    return select(silences.c.model).where(silences.c.created_at <= now, silences.c.ends_at > now)


def is_silenced(connection: Connection, model: str, now: float) -> bool:
    """Whether this model is."""
    return connection.scalar(silenced(now).where(silences.c.model == model).limit(1)) is not None


def _silence(row: RowMapping) -> Silence:
    return Silence(**row)
