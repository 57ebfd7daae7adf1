"""Truth that arrives later, joined to predictions by id; a label once stored never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine, select

from exporter.database import lock_order, upsert
from exporter.tables import labels, predictions, versions

LabelStatus = Literal["stored", "duplicate", "error"]
LabelCode = Literal["unknown_id", "unknown_label", "conflict"]
T = TypeVar("T")
_ORDER = 7_301_003
_CHUNK = 500  # SQLite takes a bounded number of parameters


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    id: str
    status: LabelStatus
    message: str = ""
    code: LabelCode | None = None


def record_labels(
    db: Engine,
    rows: Sequence[tuple[str, str]],
    *,
    source: str,
    now: float,
    load: Callable[[], object] | None = None,
) -> list[LabelOutcome]:
    """Store (prediction id, label) rows, one outcome per row in their order; bad rows stop nobody else's.

    `load` brings answered predictions from the ledger to the database; it is called where an id is unknown.
    """
    if load is not None:
        with db.connect() as connection:
            known = _label_sets(connection, [key for key, _ in rows])
        if any(key not in known for key, _ in rows):
            load()
    outcomes: list[LabelOutcome] = []
    with db.begin() as connection:
        lock_order(connection, _ORDER)
        for chunk in _chunks(rows):
            outcomes += _record_chunk(connection, chunk, source, now)
    return outcomes


def _record_chunk(
    connection: Connection, rows: Sequence[tuple[str, str]], source: str, now: float
) -> list[LabelOutcome]:
    ids = [key for key, _ in rows]
    allowed = _label_sets(connection, ids)
    held = _held(connection, ids)
    outcomes = []
    new = []
    for key, label in rows:
        outcome = _judge(key, label, allowed.get(key), held.get(key))
        outcomes.append(outcome)
        if outcome.status == "stored":
            held[key] = label
            new.append({"prediction_id": key, "label": label, "source": source, "at": now})
    if new:
        connection.execute(upsert(labels, connection.dialect.name), new)
    return outcomes


def _judge(key: str, label: str, allowed: frozenset[str] | None, held: str | None) -> LabelOutcome:
    if allowed is None:
        return LabelOutcome(key, "error", "No prediction has this id.", "unknown_id")
    if label not in allowed:
        return LabelOutcome(key, "error", f"{label!r} is not a label of this model.", "unknown_label")
    if held is None:
        return LabelOutcome(key, "stored")
    if held == label:
        return LabelOutcome(key, "duplicate")
    return LabelOutcome(key, "error", f"This prediction is already labelled {held!r}.", "conflict")


def _label_sets(connection: Connection, ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """The label set of the version that answered, for every known id."""
    answered: dict[str, tuple[str, str]] = {}
    for chunk in _chunks(ids):
        query = select(predictions.c.id, predictions.c.model, predictions.c.version)
        for row in connection.execute(query.where(predictions.c.id.in_(chunk))):
            answered[row.id] = (row.model, row.version)
    sets = {key: _label_set(connection, *key) for key in set(answered.values())}
    return {row: sets[version] for row, version in answered.items()}


def _label_set(connection: Connection, model: str, version: str) -> frozenset[str]:
    query = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    return frozenset((connection.scalar(query) or {}).get("labels", ()))


def _held(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    query = select(labels.c.prediction_id, labels.c.label).where(labels.c.prediction_id.in_(ids))
    return dict(connection.execute(query).all())


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
