"""Draw the next rows to label and remember with what probability each was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Engine, func, insert, select

from exporter.database import lock_order
from exporter.generation import said
from exporter.labels import RECORDING, leaving
from exporter.tables import labels, predictions
from monitor.errors import DrawnMeanwhileError, LabelCountError, NothingToLabelError
from monitor.quality.buying import (
    STRATEGIES,
    Shares,
    Strategy,
    appeal,
    draw,
    novelty,
    probabilities,
    shares_for,
    spread_order,
)
from monitor.quality.correctness import cross_fitted
from monitor.quality.reading import Known, Rows, read_known, read_rows
from monitor.tables import label_requests
from monitor.windows import Floats, Ints

FRAME_ROWS = 5_000  # the newest; an older row says little of today's traffic
_ORDER = 7_301_006
_CHUNK = 500  # SQLite takes a bounded number of parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRequest:
    """A row to label; `why` is for people."""

    id: str
    text: str | None  # None where the text policy kept none: look it up by id
    predicted: str  # "" where no whole answer was kept
    strategy: Strategy
    probability: float
    why: str


def next_labels(
    db: Engine,
    model: str,
    version: str,
    count: int,
    seed: int,
    *,
    now: float,
    since_seq: int = 0,
    frame_rows: int = FRAME_ROWS,
    shares: Shares | None = None,
) -> list[LabelRequest]:
    """Draw `count` rows (fewer where there are fewer) of the newest unlabelled, unrequested ones; store them.

    Raises LabelCountError, NothingToLabelError, DrawnMeanwhileError, UnknownModelVersionError.
    """
    if count < 1:
        raise LabelCountError(count)
    rows = read_rows(db, model, version, since_seq=since_seq, until_seq=None, last=frame_rows)
    with db.connect() as connection:
        staying = ~np.isin(rows.ids, list(_leaving(connection, rows.ids)))
    free = np.flatnonzero(np.isinf(rows.labelled_at) & (rows.draw < 0) & staying)
    if not len(free):
        raise NothingToLabelError(model, version)
    rng = np.random.default_rng(seed)
    appealing = _appeal(rows, read_known(db, model, version), free, shares)
    probability = probabilities(appealing.sum(axis=0), count)
    taken = draw(probability, _order(rows, free, rng), rng)
    strategies = _strategies(appealing[:, taken], rng)
    asked = [
        {
            "prediction_id": rows.ids[row],
            "model": model,
            "version": version,
            "strategy": strategy,
            "probability": float(chance),
            "draw": f"{model}:{version}:{rows.seq[-1]}:{now:.6f}:{seed}",
            "first_seq": int(rows.seq[0]),
            "last_seq": int(rows.seq[-1]),
            "rate": len(taken) / len(free),
            "at": now,
        }
        for row, chance, strategy in zip(free[taken], probability[taken], strategies, strict=True)
    ]
    with db.begin() as connection:
        lock_order(connection, RECORDING)  # no day begins to be sealed between the look and the draw
        lock_order(connection, _ORDER)
        ids = [str(one["prediction_id"]) for one in asked]
        if _taken(connection, ids) or _leaving(connection, ids):
            raise DrawnMeanwhileError(model, version)
        connection.execute(insert(label_requests), asked)
    texts = _texts(db, ids)
    return [
        LabelRequest(
            id=rows.ids[row],
            text=texts[rows.ids[row]][0],
            predicted=texts[rows.ids[row]][1],
            strategy=strategy,
            probability=float(chance),
            why=_why(strategy, rows, int(row)),
        )
        for row, chance, strategy in zip(free[taken], probability[taken], strategies, strict=True)
    ]


def _appeal(rows: Rows, known: Known, free: Ints, shares: Shares | None) -> Floats:
    """Chances by strategy of the rows `free`, by what the labels so far have taught."""
    chance = cross_fitted(known.curve, rows.served, rows.labelled(rows.told()))
    new = novelty(rows.served.similarity, known.similarity)
    return appeal(chance[free], new[free], shares or shares_for(new))


def _order(rows: Rows, free: Ints, rng: np.random.Generator) -> Ints:
    if rows.served.embedding is None:
        return rng.permutation(len(free))
    return spread_order(rows.served.embedding[free], rng)


def _strategies(appealing: Floats, rng: np.random.Generator) -> list[Strategy]:
    """The strategy that each row is owed to, drawn by its part in the row's probability: [3, n] to n."""
    bounds = np.cumsum(appealing / appealing.sum(axis=0), axis=0)
    picked = (rng.random(appealing.shape[1]) > bounds[:-1]).sum(axis=0)
    return [STRATEGIES[number] for number in picked]


def _why(strategy: Strategy, rows: Rows, row: int) -> str:
    score, similarity = rows.served.score[row], rows.served.similarity[row]
    if strategy == "uncertain":
        return f"uncertain: score {score:.2f}"
    if strategy == "drift" and not np.isnan(similarity):
        return f"drift: similarity {similarity:.2f} to the nearest training text"
    return "uniform: keeps the estimate unbiased"


def _taken(connection: Connection, ids: list[str]) -> bool:
    """Whether somebody requested or labelled one of them meanwhile."""
    columns = (label_requests.c.prediction_id, labels.c.prediction_id)
    return any(
        connection.execute(select(column).where(column.in_(ids[start : start + _CHUNK]))).first()
        for column in columns
        for start in range(0, len(ids), _CHUNK)
    )


def _leaving(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of days that are being sealed: nobody could label them."""
    parts = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    return {id_ for part in parts for id_ in leaving(connection, part)}


def _texts(db: Engine, ids: list[str]) -> dict[str, tuple[str | None, str]]:
    query = select(predictions.c.id, predictions.c.text, func.coalesce(said(), "").label("label"))
    found: dict[str, tuple[str | None, str]] = {}
    with db.connect() as connection:
        for start in range(0, len(ids), _CHUNK):
            chunk = query.where(predictions.c.id.in_(ids[start : start + _CHUNK]))
            found |= {row.id: (row.text, row.label) for row in connection.execute(chunk)}
    return found
