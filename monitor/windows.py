"""Windows: rows of the database as arrays, for reports and whoever needs the rows themselves.

Detectors read counted rows instead (monitor/tallies.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, Row, Select, and_, func, or_, select

from exporter.blocks import ROWS as BLOCK_ROWS
from exporter.generation import said, told
from exporter.tables import blocks, labels, predictions, reference
from monitor.answer_names import answer_names, numbered
from monitor.errors import NoReferenceError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """n answered rows of one version, in order of `seq`; a number that is not known is NaN."""

    model: str
    version: str
    labels: tuple[str, ...]  # answers that have a number, see answer_names.py: [C]
    label_index: Ints  # [n], -1 for an answer outside `labels`
    score: Floats  # [n]
    scores: Floats  # [n, classes]
    similarity: Floats  # [n]
    tokens: Floats  # [n]
    characters: Floats  # [n]
    text: tuple[str | None, ...]
    truth: tuple[str | None, ...]
    ids: tuple[str, ...]
    first_seq: int  # of predictions, of labels (`read_labelled`) or row numbers (`read_reference`)
    last_seq: int
    start_at: float | None  # None for a reference
    end_at: float | None

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> int:
        """How many rows have a truth."""
        return sum(truth is not None for truth in self.truth)

    @property
    def correct(self) -> Floats:
        """1 for a right answer, 0 for a wrong one, NaN where the truth is not known: [n]."""
        place = {name: index for index, name in enumerate(self.labels)}
        right = [
            np.nan if truth is None else float(place.get(truth, -2) == index)
            for truth, index in zip(self.truth, self.label_index.tolist(), strict=True)
        ]
        return np.array(right, dtype=np.float64)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the labelled rows, None without any."""
        known = self.correct[~np.isnan(self.correct)]
        return float(known.mean()) if known.size else None


Labelled: TypeAlias = Window
"""A window whose rows all have a truth and whose `first_seq` and `last_seq` count labels."""


def read_sample(
    db: Engine, model: str, version: str, *, first_seq: int, last_seq: int, rows: int, seed: int
) -> Window:
    """Predictions from `first_seq` to `last_seq`: all, or those of `rows` / 100 blocks drawn by `seed`."""
    inside: ColumnElement[bool] = predictions.c.seq.between(first_seq, last_seq)
    query = select(blocks.c.first_seq, blocks.c.last_seq).where(
        blocks.c.model == model,
        blocks.c.version == version,
        blocks.c.last_seq >= first_seq,
        blocks.c.first_seq <= last_seq,
    )
    with db.connect() as connection:
        spans = connection.execute(query.order_by(blocks.c.first_seq)).all()
    wanted = max(1, rows // BLOCK_ROWS)
    if len(spans) > wanted:
        chosen = np.sort(np.random.default_rng(seed).choice(len(spans), wanted, replace=False))
        drawn = [predictions.c.seq.between(*spans[number]) for number in chosen]
        inside = and_(inside, or_(*drawn))
    return _window(db, model, version, _read(db, _answered(model, version).where(inside)))


def read_labelled(
    db: Engine, model: str, version: str, *, after_label_seq: int, rows: int | None = None
) -> Labelled:
    """Return the predictions whose labels arrived after `after_label_seq`, in order of arrival.

    Without any, the window is empty and its `last_seq` is `after_label_seq`.
    """
    query = _answered(model, version, order=labels.c.seq).where(labels.c.seq > after_label_seq).limit(rows)
    return _window(db, model, version, _read(db, query), empty_seq=after_label_seq)


def read_reference(db: Engine, model: str, version: str) -> Window:
    """Return the version's sealed hold-out as the exporter's own engine answered it.

    Raises NoReferenceError when no row of it is `in_reference`.
    """
    query = (
        select(
            reference.c.row.label("order"),
            func.cast(reference.c.row, predictions.c.id.type).label("id"),
            *(
                reference.c[name]
                for name in ("label", "score", "scores", "similarity", "tokens", "characters")
            ),
            reference.c.truth,
        )
        .where(reference.c.model == model, reference.c.version == version, reference.c.in_reference)
        .order_by(reference.c.row)
    )
    found = _read(db, query)
    if not found:
        raise NoReferenceError(model, version)
    return _window(db, model, version, found)


def _answered(model: str, version: str, *, order: Any = predictions.c.seq) -> Select[Any]:
    columns = ("id", "at", "text", "score", "scores", "similarity", "tokens", "characters")
    return (
        select(
            order.label("order"),
            said().label("label"),
            *(predictions.c[name] for name in columns),
            told().label("truth"),
        )
        .select_from(predictions.outerjoin(labels, labels.c.prediction_id == predictions.c.id))
        .where(predictions.c.model == model, predictions.c.version == version)
        .order_by(order)
    )


def _read(db: Engine, query: Select[Any]) -> Sequence[Row[Any]]:
    with db.connect() as connection:
        return connection.execute(query).all()


def _window(db: Engine, model: str, version: str, found: Sequence[Row[Any]], *, empty_seq: int = 0) -> Window:
    names = answer_names(db, model, version)
    told = [row.truth for row in found]
    answered, true = numbered(names, [row.label for row in found], told)
    times = [row.at for row in found if hasattr(row, "at")]
    return Window(
        model=model,
        version=version,
        labels=names,
        label_index=answered,
        score=_floats([row.score for row in found]),
        scores=_floats([row.scores for row in found]).reshape(len(found), -1 if found else len(names)),
        similarity=_floats([row.similarity for row in found]),
        tokens=_floats([row.tokens for row in found]),
        characters=_floats([row.characters for row in found]),
        text=tuple(getattr(row, "text", None) for row in found),
        truth=tuple(
            names[number] if number >= 0 else label for number, label in zip(true.tolist(), told, strict=True)
        ),
        ids=tuple(str(row.id) for row in found),
        first_seq=int(found[0].order) if found else empty_seq,
        last_seq=int(found[-1].order) if found else empty_seq,
        start_at=min(times, default=None),
        end_at=max(times, default=None),
    )


def _floats(values: Sequence[Any]) -> Floats:
    return np.array(values, dtype=np.float64)  # None becomes NaN
