"""One person's rows, found by what the client sent with them, deleted for good.

Rows that still wait in a ledger, on whatever machine, are left out when they are loaded. Counts stay:
rollups, blocks and their sums of embeddings name nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    Text,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from exporter.blocks import LOADING
from exporter.database import clock, lock_order
from exporter.errors import MetadataKeyError
from exporter.prediction import Prediction
from exporter.tables import forgettings, generations, labels, predictions

_BATCH = 500  # rows of one transaction
_TRUTHS = ("true", "false")
_EMPTIED: dict[str, object] = {
    "text": None,
    "embedding": b"",
    "similarity": None,
    "metadata": {},
    "descriptors": None,
    "words": None,
}


@dataclass(frozen=True, slots=True)
class Forgotten:
    id: int  # of the record in `forgettings`
    prediction_ids: list[str]
    labels: int


Before = Callable[[Connection, Sequence[str]], None]


def _nothing_else(connection: Connection, ids: Sequence[str]) -> None:
    """No other table knows these predictions."""


def forget(db: Engine, key: str, value: str, *, actor: str, before: Before = _nothing_else) -> Forgotten:
    """Delete predictions whose metadata has `key` = `value`, and their labels; recorded, without the value.

    From here on no older row of that person is loaded either. Repeat it if it was interrupted. `before` is
    called with the ids of a batch in the transaction that deletes them, while they are still there.
    Raises MetadataKeyError.
    """
    if not key or any(sign in key for sign in '"\\'):
        raise MetadataKeyError(key)
    ids: list[str] = []
    gone = 0
    with db.begin() as connection:
        lock_order(connection, LOADING)  # what is being loaded now is there afterwards, and found below
        record = connection.execute(
            insert(forgettings)
            .values(
                key=key, digest=digest(key, value), actor=actor, at=clock(connection), predictions=0, labels=0
            )
            .returning(forgettings.c.id)
        ).scalar_one()
    while True:
        with db.begin() as connection:
            lock_order(connection, LOADING)
            found = _matching(connection, key, value)
            before(connection, found)
            gone += _remove(connection, labels, "prediction_id", found, {})
            connection.execute(delete(generations).where(generations.c.prediction_id.in_(found)))
            _remove(connection, predictions, "id", found, _EMPTIED)
            ids += found
            counted = {"predictions": len(ids), "labels": gone}
            connection.execute(update(forgettings).where(forgettings.c.id == record).values(counted))
        if len(found) < _BATCH:
            return Forgotten(record, ids, gone)


def without_forgotten(connection: Connection, rows: Sequence[Prediction]) -> list[Prediction]:
    """Rows of nobody who asked, after them, to be forgotten."""
    if not rows:
        return []
    asked = select(forgettings.c.key, forgettings.c.digest, forgettings.c.at)
    found = connection.execute(asked.where(forgettings.c.at >= min(row.at for row in rows))).all()
    if not found:
        return list(rows)
    return [row for row in rows if not any(_is_of(row, key, known, at) for key, known, at in found)]


def digest(key: str, value: str) -> str:
    """What is kept of a person who was forgotten: enough to know older rows by, no more.

    >>> digest("user", "ann")[:12]
    'a0f3b5cd8cc4'
    """
    return sha256(f"{key}\0{_spelt(value)}".encode()).hexdigest()


def _spelt(value: str) -> str:
    """Python and JSON write truth differently."""
    return value.lower() if value.lower() in _TRUTHS else value


def _is_of(row: Prediction, key: str, known: str, at: float) -> bool:
    given = row.metadata.get(key)
    return row.at <= at and given is not None and digest(key, str(given)) == known


def _matching(connection: Connection, key: str, value: str) -> list[str]:
    spelt = _spelt(value)
    given: ColumnElement[str] = cast(predictions.c.metadata[key].as_string(), Text)
    if connection.dialect.name == "sqlite":  # it reads a JSON true as 1
        kind = func.json_type(predictions.c.metadata, f'$."{key}"')
        given = case((kind.in_(_TRUTHS), kind), else_=given)
    known = func.lower(given) if spelt in _TRUTHS else given
    query = select(predictions.c.id).where(known == spelt).order_by(predictions.c.seq).limit(_BATCH)
    return list(connection.scalars(query))


def _remove(
    connection: Connection, table: Table, column: str, ids: Sequence[str], emptied: dict[str, object]
) -> int:
    """Delete rows; returns how many. The table's newest row is emptied instead and loses its id.

    SQLite would give its serial number again, and readers remember how far they have read.
    """
    own = table.c[column].in_(ids)
    newest = connection.scalar(select(func.max(table.c.seq)))
    kept = update(table).where(own, table.c.seq == newest)
    left = connection.execute(kept.values({column: f"forgotten-{uuid4().hex}", **emptied})).rowcount
    return left + connection.execute(delete(table).where(own)).rowcount
