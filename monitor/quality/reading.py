"""Served rows and their labels as arrays, without texts; scores and embeddings only of shorter windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, Select, exists, select

from exporter.generation import said, told
from exporter.tables import labels, predictions, reference
from monitor.answer_names import ANOTHER, answer_names, numbered
from monitor.quality.correctness import Bools, Curve, Labelled, Served, reference_curve
from monitor.quality.design import Draw
from monitor.quality.macro_f1 import confusion
from monitor.tables import label_requests
from monitor.windows import Floats, Ints

EMBEDDED_ROWS = 20_000  # longer windows are judged by score and similarity: 16 MB of embeddings are enough
EARLIER_ROWS = 10_000  # before a window, in which labels that teach are looked for
EARLIER_LABELS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """N served rows of one version, in order of `seq`."""

    ids: tuple[str, ...]
    seq: Ints  # [N]
    served: Served
    labelled_at: Floats  # seconds since 1970 UTC, infinite without a label: [N]
    truth: Ints  # label number, -1 without a label or for a class that the version does not have: [N]
    draws: tuple[Draw, ...]  # that took a row of these, oldest first
    draw: Ints  # place in `draws`, -1 for a row that none took: [N]
    probability: Floats  # with which it was drawn, NaN where it was not: [N]
    metadata: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, kept: Bools) -> Rows:
        """The rows where `kept` [N]."""
        places = np.flatnonzero(kept).tolist()
        return Rows(
            ids=tuple(self.ids[place] for place in places),
            seq=self.seq[kept],
            served=self.served.only(kept),
            labelled_at=self.labelled_at[kept],
            truth=self.truth[kept],
            draws=self.draws,
            draw=self.draw[kept],
            probability=self.probability[kept],
            metadata=tuple(self.metadata[place] for place in places),
        )

    def told(self) -> Ints:
        """Row numbers of those with a label: [n]."""
        return np.flatnonzero(np.isfinite(self.labelled_at))

    def labelled(self, rows: Ints) -> Labelled:
        """Those of `rows` [n], all of which have a label."""
        truth = self.truth[rows]
        correct = (truth == self.served.answered[rows]) & (truth >= 0)
        return Labelled(rows=rows, truth=truth, correct=correct.astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the version's replayed reference says of its answers."""

    curve: Curve
    similarity: Floats
    confused: Floats  # [C, C]


def read_known(db: Engine, model: str, version: str) -> Known:
    """From the replayed reference. Raises UnknownModelVersionError."""
    names = answer_names(db, model, version)
    columns = (reference.c[name] for name in ("truth", "label", "score", "similarity"))
    query = select(*columns).where(reference.c.model == model, reference.c.version == version)
    with db.connect() as connection:
        found = connection.execute(query).all()
    score, similarity = (_floats([getattr(row, name) for row in found]) for name in ("score", "similarity"))
    answered, truth = numbered(names, [row.label for row in found], [row.truth for row in found])
    told = truth >= 0
    right = (answered == truth).astype(np.float64)
    return Known(
        curve=reference_curve(score[told], similarity[told], right[told]),
        similarity=similarity,
        confused=confusion(answered, truth, len(names)),
    )


def read_earlier(db: Engine, model: str, version: str, *, until_seq: int) -> Rows:
    """The last `EARLIER_LABELS` labelled ones among the last `EARLIER_ROWS` rows with seq <= until_seq.

    Raises UnknownModelVersionError.
    """
    own = (predictions.c.model == model, predictions.c.version == version, predictions.c.seq <= until_seq)
    first = select(predictions.c.seq).where(*own).order_by(predictions.c.seq.desc()).offset(EARLIER_ROWS)
    with db.connect() as connection:
        since = connection.scalar(first.limit(1)) or 0
    return read_rows(
        db, model, version, since_seq=since, until_seq=until_seq, last=EARLIER_LABELS, told_only=True
    )


def read_rows(
    db: Engine,
    model: str,
    version: str,
    *,
    since_seq: int,
    until_seq: int | None,
    last: int | None = None,
    told_only: bool = False,
) -> Rows:
    """Rows with since_seq < seq <= until_seq (None: the newest), of these (with a label only) the `last`.

    Without generated answers of which nobody could say whether they are right. Raises
    UnknownModelVersionError.
    """
    names = answer_names(db, model, version)
    narrow = ("seq", "id", "label", "score", "similarity", "metadata")
    query = _joined(_answered(model, version, narrow, since_seq, until_seq, told_only=told_only)).limit(last)
    with db.connect() as connection:
        found = connection.execute(query).all()[::-1]
        wide: Sequence[Row[Any]] = []
        if 0 < len(found) <= EMBEDDED_ROWS:
            bounds = found[0].seq - 1, found[-1].seq
            query = _answered(model, version, ("seq", "scores", "embedding"), *bounds, told_only=told_only)
            wide = connection.execute(query).all()[::-1]
    scores, embedding = _wide(wide, 0 if ANOTHER in names else len(names), len(found))
    draws = _draws(found)
    places = {name: place for place, name in enumerate(draws)}
    answered, truth = numbered(names, [row.label for row in found], [row.truth for row in found])
    served = Served(
        answered=answered,
        score=_floats([row.score for row in found]),
        similarity=_floats([row.similarity for row in found]),
        scores=scores,
        embedding=embedding,
    )
    return Rows(
        ids=tuple(row.id for row in found),
        seq=np.array([row.seq for row in found], dtype=np.int64),
        served=served,
        labelled_at=_floats([np.inf if row.labelled_at is None else row.labelled_at for row in found]),
        truth=truth,
        draws=tuple(draws.values()),
        draw=np.array([places.get(row.draw, -1) for row in found], dtype=np.int64),
        probability=_floats([row.probability for row in found]),
        metadata=tuple(row.metadata or {} for row in found),
    )


def _answered(
    model: str,
    version: str,
    columns: tuple[str, ...],
    since_seq: int,
    until_seq: int | None,
    *,
    told_only: bool,
) -> Select[Any]:
    chosen = (said().label("label") if name == "label" else predictions.c[name] for name in columns)
    query: Select[Any] = select(*chosen)
    query = query.where(predictions.c.model == model, predictions.c.version == version)
    query = query.where(predictions.c.seq > since_seq, said().is_not(None))
    if until_seq is not None:
        query = query.where(predictions.c.seq <= until_seq)
    if told_only:
        other = labels.alias()  # `labels` itself is joined
        query = query.where(exists().where(other.c.prediction_id == predictions.c.id))
    return query.order_by(predictions.c.seq.desc())


def _joined(query: Select[Any]) -> Select[Any]:
    """With the label of each row and the draw that asked for it, where there are any."""
    asked = ("probability", "draw", "first_seq", "last_seq", "rate")
    return (
        query.add_columns(told().label("truth"), labels.c.at.label("labelled_at"))
        .add_columns(*(label_requests.c[name] for name in asked), label_requests.c.at.label("asked_at"))
        .select_from(
            predictions.outerjoin(labels, labels.c.prediction_id == predictions.c.id).outerjoin(
                label_requests, label_requests.c.prediction_id == predictions.c.id
            )
        )
    )


def _draws(found: Sequence[Row[Any]]) -> dict[str, Draw]:
    made = {
        row.draw: Draw(at=row.asked_at, first_seq=row.first_seq, last_seq=row.last_seq, rate=row.rate)
        for row in found
        if row.draw is not None
    }
    return dict(sorted(made.items(), key=lambda one: one[1].at))


def _wide(wide: Sequence[Row[Any]], classes: int, rows: int) -> tuple[Floats | None, Floats | None]:
    """Scores [N, C] and embeddings [N, D], or None where a row has others than its neighbours."""
    if not wide or len(wide) != rows:
        return None, None
    size = len(wide[0].embedding)
    if not size or any(len(row.embedding) != size or len(row.scores) != classes for row in wide):
        return None, None
    embedding = np.frombuffer(b"".join(row.embedding for row in wide), dtype="<f2").reshape(rows, -1)
    return _floats([row.scores for row in wide]), embedding.astype(np.float64)


def _floats(values: list[Any]) -> Floats:
    return np.array(values, dtype=np.float64)  # None becomes NaN
