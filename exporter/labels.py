"""Truth that arrives later, joined to predictions by id; a label once stored never changes.

A label that neither the version that answered nor the champion knows is stored as well, with the status
`new_label`: see new_classes.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine, and_, select

from exporter.database import lock_order, upsert
from exporter.new_classes import Waiting, champion_labels, read_waiting, told, write_waiting
from exporter.tables import labels, predictions, sealed_days, versions
from trainer.decoder import TASK as GENERATION
from trainer.tasks import load

LabelStatus = Literal["stored", "new_label", "duplicate", "error"]
LabelCode = Literal["unknown_id", "unknown_label", "conflict", "sealed"]
T = TypeVar("T")
_TOO_LATE = "Too late: the predictions of that day were sealed."
RECORDING = 7_301_003  # the lock under which labels are stored
_DAY_S = 86400
_ID = re.compile(r"[0-9a-f]{32}")
_CHUNK = 500  # SQLite takes a bounded number of parameters


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    id: str
    status: LabelStatus
    message: str = ""
    code: LabelCode | None = None


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a label is judged by: the model that answered, and the classes that it or its champion knows."""

    model: str
    known: frozenset[str]
    task: str

    def strange(self, label: str) -> list[str]:
        """The classes of a canonical label that nobody knows yet."""
        return [name for name in load(self.task).names(label) if name not in self.known]


def record_labels(
    db: Engine,
    rows: Sequence[tuple[str, str]],
    *,
    source: str,
    now: float,
    load: Callable[[], object] | None = None,
    learns: Callable[[str], bool] = lambda _: True,
    kept: Callable[[str], str | None] = lambda text: text,
) -> list[LabelOutcome]:
    """Store (prediction id, label) rows, one outcome per row in their order; bad rows stop nobody else's.

    `load` brings answered predictions from the ledger to the database; it is called where an id is unknown.
    `learns` says whether a model takes in labels that it does not know yet; otherwise they are refused.
    `kept` is how texts are stored: of a language model a label is one, held against the answer as it is kept.
    """
    if load is not None:
        with db.connect() as connection:
            known = _answered(connection, [key for key, _ in rows])
        if any(key not in known for key, _ in rows):
            load()
    outcomes: list[LabelOutcome] = []
    with db.begin() as connection:
        lock_order(connection, RECORDING)
        for chunk in _chunks(rows):
            outcomes += _record_chunk(connection, chunk, source, now, learns, kept)
    return outcomes


def _record_chunk(
    connection: Connection,
    rows: Sequence[tuple[str, str]],
    source: str,
    now: float,
    learns: Callable[[str], bool],
    kept: Callable[[str], str | None],
) -> list[LabelOutcome]:
    ids = [key for key, _ in rows]
    answered = _answered(connection, ids)
    held = _held(connection, ids)
    sealed = _sealed(connection, [key for key in ids if key not in held], answered)
    waiting = {
        model: read_waiting(connection, model, now)
        for model in sorted({one.model for one in answered.values()})
        if learns(model)
    }
    outcomes = []
    new = []
    for key, given in rows:
        label = _canonical(answered.get(key), given, kept)
        if key in sealed:
            outcome = LabelOutcome(key, "error", _TOO_LATE, "sealed")
        else:
            outcome = _judge(key, label, answered.get(key), held.get(key), waiting)
        outcomes.append(outcome)
        if outcome.status in ("stored", "new_label"):
            held[key] = label
            new.append({"prediction_id": key, "label": label, "source": source, "at": now})
        if outcome.status == "new_label":
            for name in answered[key].strange(label):
                waiting[answered[key].model].add(name)
    if new:
        connection.execute(upsert(labels, connection.dialect.name), new)
    for model, names in waiting.items():
        write_waiting(connection, model, names, now)
    return outcomes


def _judge(
    key: str, label: str, answered: _Answered | None, held: str | None, waiting: Mapping[str, Waiting]
) -> LabelOutcome:
    if answered is None:
        return LabelOutcome(key, "error", "No prediction has this id.", "unknown_id")
    if held is not None:
        if held == label:
            return LabelOutcome(key, "duplicate")
        return LabelOutcome(key, "error", f"This prediction is already labelled {held!r}.", "conflict")
    return _new(key, label, answered, waiting)


def _new(key: str, label: str, answered: _Answered, waiting: Mapping[str, Waiting]) -> LabelOutcome:
    """Of a label that comes for the first time."""
    try:
        strange = answered.strange(label)
    except ValueError as error:
        return LabelOutcome(key, "error", str(error), "unknown_label")
    for name in strange:
        if answered.model not in waiting:
            problem: str | None = f"{name!r} is not a label of this model, which learns no new ones."
        else:
            problem = waiting[answered.model].problem(name)
        if problem is not None:
            return LabelOutcome(key, "error", problem, "unknown_label")
    if not strange:
        return LabelOutcome(key, "stored")
    return LabelOutcome(key, "new_label", " ".join(told(name, answered.known) for name in strange))


def _canonical(answered: _Answered | None, label: str, kept: Callable[[str], str | None]) -> str:
    """The one spelling of a label; as it is where it has none."""
    if answered is not None and answered.task == GENERATION:
        return kept(label) or label
    with suppress(ValueError):
        return label if answered is None else load(answered.task).spelled(label)
    return label


def _answered(connection: Connection, ids: Sequence[str]) -> dict[str, _Answered]:
    """Who answered, for every known id."""
    answered: dict[str, tuple[str, str]] = {}
    for chunk in _chunks(ids):
        query = select(predictions.c.id, predictions.c.model, predictions.c.version)
        for row in connection.execute(query.where(predictions.c.id.in_(chunk))):
            answered[row.id] = (row.model, row.version)
    by = {key: _judged_by(connection, *key) for key in set(answered.values())}
    return {row: by[version] for row, version in answered.items()}


def _judged_by(connection: Connection, model: str, version: str) -> _Answered:
    query = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    manifest = connection.scalar(query) or {}
    known = frozenset(manifest.get("labels", ())) | champion_labels(connection, model)
    return _Answered(model, known, manifest.get("task", "classification"))


def _sealed(connection: Connection, ids: Sequence[str], known: Container[str]) -> set[str]:
    """Ids of predictions that left the database for a file, or are about to."""
    gone = {key: float(started) for key in ids if key not in known and (started := _day_of(key)) is not None}
    begun = select(sealed_days.c.start_at).where(sealed_days.c.start_at.in_(set(gone.values())))
    days = set(connection.scalars(begun)) if gone else set()
    return {key for key, started in gone.items() if started in days} | leaving(connection, ids)


def leaving(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Of these, at most 500, the predictions of days that are being sealed: they take no label any more."""
    query = select(predictions.c.id).join(
        sealed_days,
        and_(
            sealed_days.c.model == predictions.c.model,
            sealed_days.c.version == predictions.c.version,
            sealed_days.c.start_at <= predictions.c.at,
            sealed_days.c.start_at > predictions.c.at - _DAY_S,
            sealed_days.c.until_seq >= predictions.c.seq,
            sealed_days.c.state != "sealed",
        ),
    )
    return set(connection.scalars(query.where(predictions.c.id.in_(ids))))


def _day_of(id_: str) -> int | None:
    """Midnight before an id was made (see `recording.prediction_id`); None where it is no id of ours.

    >>> _day_of("018bcfe56800" + "0" * 20), _day_of("p1")
    (1699920000, None)
    """
    if not _ID.fullmatch(id_):
        return None
    return int(id_[:12], 16) // 1000 // _DAY_S * _DAY_S


def _held(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    query = select(labels.c.prediction_id, labels.c.label).where(labels.c.prediction_id.in_(ids))
    return dict(connection.execute(query).all())


def _chunks(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
