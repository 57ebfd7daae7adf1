"""The days that were or are being sealed, as rows: what has been done survives whoever did it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, insert, select, update

from exporter.database import NOW, lock_order
from exporter.labels import RECORDING
from exporter.tables import SealedState, sealed_days, versions
from monitor.lease import brief

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Rows of one version and UTC day up to `until_seq`; what comes later is another part."""

    model: str
    version: str
    start_at: float  # midnight UTC
    part: int
    until_seq: int
    token: str | None = None  # of the file that counts, once it is recorded
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Of the day, and of its part where it has several.

        >>> Day(model="m", version="v1", start_at=1.7e9 // 86400 * 86400, part=1, until_seq=9).name
        '2023-11-14.1'
        """
        day = datetime.fromtimestamp(self.start_at, UTC).date().isoformat()
        return f"{day}.{self.part}" if self.part else day


_COLUMNS = tuple(sealed_days.c[name] for name in Day.__dataclass_fields__)


def versions_of(db: Engine) -> list[tuple[str, str]]:
    """Every registered (model, version)."""
    with db.connect() as connection:
        found = connection.execute(
            select(versions.c.model, versions.c.version).order_by(*versions.primary_key)
        )
        return [(row.model, row.version) for row in found]


def unfinished(db: Engine) -> list[Day]:
    """Days that somebody began with and did not seal."""
    query = select(*_COLUMNS).where(sealed_days.c.state != "sealed").order_by(*sealed_days.primary_key)
    with db.connect() as connection:
        return [_day(row) for row in connection.execute(query).mappings()]


def mark(db: Engine, model: str, version: str, *, at: float, until_seq: int) -> Day:
    """Begin with the day of `at`: from now on its rows up to `until_seq` take no labels.

    Where another process has just begun with it, its work is returned: no row belongs to two parts.
    """
    start_at = at // DAY_S * DAY_S
    columns = sealed_days.c
    this = and_(columns.model == model, columns.version == version, columns.start_at == start_at)
    with brief(db) as connection:
        lock_order(connection, RECORDING)  # labels that are being stored are stored before
        parts = connection.execute(select(*_COLUMNS, sealed_days.c.state).where(this)).mappings().all()
        begun = [part for part in parts if part["state"] != "sealed"]
        if begun:
            return _day(begun[0])
        day = Day(model=model, version=version, start_at=start_at, part=len(parts), until_seq=until_seq)
        connection.execute(insert(sealed_days).values(**asdict(day), state="marked", at=NOW))
    return day


def record(db: Engine, day: Day) -> Day:
    """Make this file the one that counts, unless another was recorded first; returns the day as it stands."""
    first = and_(_key(day), sealed_days.c.state == "marked")
    with brief(db) as connection:
        _set(connection, first, state="written", token=day.token, sha256=day.sha256)
        return _day(connection.execute(select(*_COLUMNS).where(_key(day))).mappings().one())


def close(db: Engine, day: Day) -> None:
    """Nothing of the day is left to do."""
    with brief(db) as connection:
        _set(connection, _key(day), state="sealed")


def _day(row: RowMapping) -> Day:
    return Day(**{name: row[name] for name in Day.__dataclass_fields__})


def _key(day: Day) -> ColumnElement[bool]:
    return and_(*(column == getattr(day, column.name) for column in sealed_days.primary_key))


def _set(connection: Connection, which: ColumnElement[bool], *, state: SealedState, **values: Any) -> None:
    connection.execute(update(sealed_days).where(which).values(state=state, at=NOW, **values))
