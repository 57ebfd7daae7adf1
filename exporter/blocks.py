"""Blocks: a version's rows in order of seq, counted in the cells of its sketch, at most a hundred a block.

The loader writes them with the rows. Rows that came another way (or before the version had a sketch) are
counted by `catch_up`; `rebuild` counts everything again. A block never holds rows of two hours, so that
seasons can be told apart, and counts of any blocks add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from exporter.database import lock_order
from exporter.prediction import Prediction
from exporter.sketch import Ints, Sketch
from exporter.sketches import read_sketch
from exporter.slices import count_slices, pack, unpack
from exporter.tables import blocks, predictions

ROWS = 100
HOUR_S = 3600
LOADING = 7_301_002  # the lock under which rows are stored: their serial numbers come in order
_PART = 5000  # rows that are counted in one transaction
_COUNTED = ("label", "score", "similarity", "characters", "run_ms", "embedding", "descriptors", "words")


def add(connection: Connection, rows: Sequence[Prediction], seqs: Sequence[int]) -> None:
    """Count rows that were just stored, in order of their `seqs`.

    Versions without a reference have no blocks. Behind rows that are not counted yet it waits for `catch_up`:
    blocks leave no gaps.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row.model, row.version].append(number)
    for (model, version), numbers in groups.items():
        own = [seqs[number] for number in numbers]
        sketch = read_sketch(connection, model, version)
        last = _last(connection, model, version)
        if sketch is None or _uncounted(connection, model, version, last, before=own[0]):
            continue
        _extend(connection, sketch, model, version, last, [rows[number] for number in numbers], own)


def catch_up(db: Engine, model: str, version: str) -> int:
    """Count the rows after the last block; returns how many there were."""
    with db.connect() as connection:
        if not _uncounted(connection, model, version, _last(connection, model, version)):
            return 0
    total = 0
    while counted := _catch_up_part(db, model, version):
        total += counted
    return total


def rebuild(db: Engine, model: str, version: str) -> int:
    """Count every row of the version again; returns how many there are."""
    with db.begin() as connection:
        lock_order(connection, LOADING)
        connection.execute(delete(blocks).where(blocks.c.model == model, blocks.c.version == version))
    return catch_up(db, model, version)


def read_rows(
    connection: Connection,
    model: str,
    version: str,
    *,
    after_seq: int,
    until_seq: int | None,
    limit: int,
    metadata: bool = False,
) -> Sequence[Row[Any]]:
    """What a sketch counts of predictions with after_seq < seq <= until_seq, in order of seq.

    `metadata` is read too where rows are counted by slice.
    """
    names = ("seq", "at", *_COUNTED, *(["metadata"] if metadata else []))
    query = (
        select(*(predictions.c[name] for name in names))
        .where(predictions.c.model == model, predictions.c.version == version, predictions.c.seq > after_seq)
        .order_by(predictions.c.seq)
        .limit(limit)
    )
    if until_seq is not None:
        query = query.where(predictions.c.seq <= until_seq)
    return connection.execute(query).all()


def hour_of(at: float) -> int:
    """Start of the hour, seconds since 1970 UTC."""
    return int(at // HOUR_S) * HOUR_S


def cuts(hours: Sequence[int], held: int, held_hour: int | None) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of a batch that belong in one block; the first may fit in the open block.

    >>> list(cuts([0, 0, 0, 1], held=98, held_hour=0)), list(cuts([1, 1], held=98, held_hour=0))
    ([(0, 2), (2, 3), (3, 4)], [(0, 2)])
    """
    start, room = 0, ROWS - held if hours[0] == held_hour else ROWS
    for number in range(1, len(hours)):
        if number - start == room or hours[number] != hours[number - 1]:
            yield start, number
            start, room = number, ROWS
    yield start, len(hours)


def _catch_up_part(db: Engine, model: str, version: str) -> int:
    with db.begin() as connection:
        lock_order(connection, LOADING)
        sketch, last = read_sketch(connection, model, version), _last(connection, model, version)
        after = last.last_seq if last else 0
        if sketch is None:
            return 0
        rows = read_rows(
            connection,
            model,
            version,
            after_seq=after,
            until_seq=None,
            limit=_PART,
            metadata=bool(sketch.slices),
        )
        if not rows:
            return 0
        _extend(connection, sketch, model, version, last, rows, [row.seq for row in rows])
    return len(rows)


def _extend(
    connection: Connection,
    sketch: Sketch,
    model: str,
    version: str,
    last: Row[Any] | None,
    rows: Sequence[Any],
    seqs: Sequence[int],
) -> None:
    """Fill the open block and begin others."""
    placed = sketch.place(rows)
    open_ = last if last is not None and last.sketch == sketch.name and last.rows < ROWS else None
    parts = cuts([hour_of(row.at) for row in rows], open_.rows if open_ else 0, open_.hour if open_ else None)
    new = []
    came: Sequence[str] = last.slices or () if last is not None else ()
    for start, end in parts:
        part = rows[start:end]
        sliced = count_slices(sketch, placed[start:end], part, came)
        came = list(sliced)
        found = {
            "last_seq": seqs[end - 1],
            "rows": len(part),
            "start_at": min(row.at for row in part),
            "end_at": max(row.at for row in part),
            "counts": sketch.count(placed[start:end]),
            "embedding_sum": _embedding_sum(part),
        }
        hour = hour_of(part[0].at)
        if start == 0 and open_ is not None and open_.hour == hour:
            _merge(connection, model, version, open_, found, sliced)
            continue
        own = {"model": model, "version": version, "first_seq": seqs[start], "sketch": sketch.name}
        new.append(found | own | pack(sliced) | {"hour": hour, "counts": _packed(found["counts"])})
    if new:
        connection.execute(insert(blocks), new)


def _merge(
    connection: Connection,
    model: str,
    version: str,
    last: Row[Any],
    found: dict[str, Any],
    sliced: dict[str, Ints],
) -> None:
    before = unpack(last.slices, last.slice_counts)
    key = (blocks.c.model == model, blocks.c.version == version, blocks.c.first_seq == last.first_seq)
    connection.execute(
        update(blocks)
        .where(*key)
        .values(
            last_seq=found["last_seq"],
            rows=last.rows + found["rows"],
            start_at=min(last.start_at, found["start_at"]),
            end_at=max(last.end_at, found["end_at"]),
            counts=_packed(np.frombuffer(last.counts, dtype=np.uint8) + found["counts"]),
            embedding_sum=_added(last.embedding_sum, found["embedding_sum"]),
            **pack({name: cells + before.get(name, 0) for name, cells in sliced.items()}),
        )
    )


def _packed(counts: Ints) -> bytes:
    return counts.astype(np.uint8).tobytes()  # a block has at most ROWS < 256 rows


def _embedding_sum(rows: Sequence[Any]) -> bytes | None:
    found = [row.embedding for row in rows if row.embedding]
    if not found or len(set(map(len, found))) > 1:
        return None
    joined = np.frombuffer(b"".join(found), dtype="<f2").reshape(len(found), -1)
    return bytes(joined.sum(axis=0, dtype=np.float64).astype("<f4"))


def _added(a: bytes | None, b: bytes | None) -> bytes | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return bytes((np.frombuffer(a, dtype="<f4") + np.frombuffer(b, dtype="<f4")).astype("<f4"))


def _last(connection: Connection, model: str, version: str) -> Row[Any] | None:
    query = select(blocks).where(blocks.c.model == model, blocks.c.version == version)
    return connection.execute(query.order_by(blocks.c.first_seq.desc()).limit(1)).first()


def _uncounted(
    connection: Connection, model: str, version: str, last: Row[Any] | None, *, before: int | None = None
) -> bool:
    query = select(predictions.c.seq).where(
        predictions.c.model == model,
        predictions.c.version == version,
        predictions.c.seq > (last.last_seq if last else 0),
    )
    if before is not None:
        query = query.where(predictions.c.seq < before)
    return connection.execute(query.limit(1)).first() is not None
