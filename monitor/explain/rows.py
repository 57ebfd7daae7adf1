"""What an explanation looks at: a bounded sample of predictions, with text, metadata and embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, select

from exporter.generation import said, told
from exporter.tables import blocks, labels, predictions, reference
from monitor.explain.examples import Embeddings
from monitor.explain.texts import readable
from monitor.windows import Floats

_COLUMNS = ("seq", "id", "text", "score", "similarity", "embedding", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """n predictions in order of seq; NaN where similarity or truth is not known."""

    ids: tuple[str, ...]
    text: tuple[str | None, ...]  # None where the policy keeps none
    label: tuple[str, ...]
    truth: tuple[str | None, ...]
    score: Floats
    similarity: Floats
    embedding: Embeddings | None  # unit rows [n, hidden], None where some have none
    metadata: tuple[Mapping[str, Any], ...]

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def correct(self) -> Floats:
        """1 for a right answer, 0 for a wrong one, NaN where the truth is not known: [n]."""
        pairs = zip(self.label, self.truth, strict=True)
        return np.array([np.nan if truth is None else truth == label for label, truth in pairs], dtype=float)


def sample_rows(
    connection: Connection, model: str, version: str, *, since_seq: int, until_seq: int, limit: int, seed: int
) -> Rows:
    """At most `limit` rows with since_seq <= seq <= until_seq, of blocks drawn by `seed`.

    Rows that no block counts yet are left out, unless there is no block at all: then the newest.
    """
    query = (
        select(
            *(predictions.c[name] for name in _COLUMNS),
            func.coalesce(said(), "").label("label"),
            told().label("truth"),
        )
        .outerjoin_from(predictions, labels, labels.c.prediction_id == predictions.c.id)
        .where(predictions.c.model == model, predictions.c.version == version)
    )
    spans = _draw(connection, model, version, since_seq, until_seq, limit, seed)
    if spans:  # one by one: in one query SQLite looks at every row of the window
        clipped = ((max(first, since_seq), min(last, until_seq)) for first, last in spans)
        parts = [query.where(predictions.c.seq.between(*span)) for span in clipped]
        found: list[Any] = [row for part in parts for row in connection.execute(part)][:limit]
    else:
        inside = query.where(predictions.c.seq.between(since_seq, until_seq))
        found = list(connection.execute(inside.order_by(predictions.c.seq.desc()).limit(limit)))
    return _rows(sorted(found, key=lambda row: int(row.seq)))


def reference_answers(connection: Connection, model: str, version: str) -> tuple[tuple[str, ...], Floats]:
    """The reference window's answers and similarities: [n] each."""
    query = select(reference.c.label, reference.c.similarity).where(
        reference.c.model == model, reference.c.version == version, reference.c.in_reference
    )
    found = connection.execute(query.order_by(reference.c.row)).all()
    return tuple(row.label for row in found), np.array([row.similarity for row in found], dtype=np.float64)


def _draw(
    connection: Connection, model: str, version: str, since_seq: int, until_seq: int, limit: int, seed: int
) -> list[tuple[int, int]]:
    """First and last `seq` of blocks that hold `limit` rows or a little more."""
    query = select(blocks.c.first_seq, blocks.c.last_seq, blocks.c.rows).where(
        blocks.c.model == model,
        blocks.c.version == version,
        blocks.c.last_seq >= since_seq,
        blocks.c.first_seq <= until_seq,
    )
    found = connection.execute(query.order_by(blocks.c.first_seq)).all()
    order = np.random.default_rng(seed).permutation(len(found))
    held = np.cumsum([found[place].rows for place in order])
    enough = int(np.searchsorted(held, limit)) + 1
    return [(found[place].first_seq, found[place].last_seq) for place in order[:enough]]


def _rows(found: Sequence[Row[Any]]) -> Rows:
    return Rows(
        ids=tuple(row.id for row in found),
        text=tuple(readable(row.text) for row in found),
        label=tuple(row.label for row in found),
        truth=tuple(row.truth for row in found),
        score=np.array([row.score for row in found], dtype=np.float64),
        similarity=np.array([row.similarity for row in found], dtype=np.float64),
        embedding=_embeddings([row.embedding for row in found]),
        metadata=tuple(row.metadata or {} for row in found),
    )


def _embeddings(found: Sequence[bytes | None]) -> Embeddings | None:
    sizes = {len(one or b"") for one in found}
    if len(sizes) != 1 or 0 in sizes:
        return None
    held = np.frombuffer(b"".join(one or b"" for one in found), dtype="<f2")
    return held.reshape(len(found), -1).astype(np.float32)
