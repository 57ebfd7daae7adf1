"""The rows of a day in the database, as Arrow tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Engine, delete, select

from exporter.tables import generations, predictions
from monitor.lake.bounds import unwanted
from monitor.lake.days import DAY_S, Day
from monitor.lease import brief

_PAGE = 5000  # rows in memory at once, and a row group of the file
_BATCH = 1000  # rows that one transaction removes: writers wait for no longer than that takes
_ARROW = {
    "seq": "int64",
    "at": "float64",
    "score": "float64",
    "similarity": "float64",
    "queue_ms": "float64",
    "run_ms": "float64",
    "tokens": "int32",
    "characters": "int32",
    "truncated": "bool",
    "embedding": "binary",
    "words": "binary",
}  # columns that are not text; lists and mappings are JSON


def pages(db: Engine, day: Day) -> Iterator[Any]:
    """Arrow tables of the day's rows that may leave the database, in order of `seq`."""
    query = (
        select(predictions)
        .where(
            predictions.c.model == day.model,
            predictions.c.version == day.version,
            predictions.c.seq <= day.until_seq,
            predictions.c.at >= day.start_at,
            predictions.c.at < day.start_at + DAY_S,
            unwanted(),
        )
        .order_by(predictions.c.seq)
        .limit(_PAGE)
    )
    last = 0
    while True:
        with db.connect() as connection:
            found = connection.execute(query.where(predictions.c.seq > last)).mappings().all()
        if not found:
            return
        last = found[-1]["seq"]
        yield _table([dict(row) for row in found])


def schema() -> Any:
    """Arrow schema of a file: the columns of `predictions`."""
    import pyarrow as pa  # noqa: PLC0415  a quarter of a second

    return pa.schema([(column.name, _ARROW.get(column.name, "string")) for column in predictions.c])


def remove(db: Engine, groups: Iterable[list[int]]) -> int:
    """Delete predictions by `seq`, a batch a transaction; returns how many were there.

    Generated answers go with them: they are not in the files.
    """
    gone = 0
    for seqs in groups:
        for start in range(0, len(seqs), _BATCH):
            with brief(db) as connection:
                batch = predictions.c.seq.in_(seqs[start : start + _BATCH])
                ids = select(predictions.c.id).where(batch)
                connection.execute(delete(generations).where(generations.c.prediction_id.in_(ids)))
                gone += connection.execute(delete(predictions).where(batch)).rowcount
    return gone


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa  # noqa: PLC0415  as above

    for row in rows:
        for name in ("scores", "metadata", "descriptors"):
            row[name] = None if row[name] is None else json.dumps(row[name])
    return pa.Table.from_pylist(rows, schema=schema())
