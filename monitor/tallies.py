"""Tallies: the counted rows of one window, read from blocks and not from predictions.

Every row is judged once, in order of seq. Where a window begins or ends inside a block, the rows of that
block are counted from the predictions themselves: at most two blocks a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, case, func, select

from exporter import outcomes
from exporter.blocks import HOUR_S, read_rows
from exporter.generation import said, told
from exporter.sketch import Sketch
from exporter.slices import SliceSum, count_slices
from exporter.tables import blocks, labels, rollups
from monitor.label_counts import first_unseen, labelled
from monitor.ranks import Ints
from monitor.settings import Season

_HOURS = {"none": 1, "hour-of-day": 24, "hour-of-week": 168}
_FIRST_PAGE, _LARGEST_PAGE = 16, 4096  # blocks
_COLUMNS = tuple(
    blocks.c[name]
    for name in ("first_seq", "last_seq", "rows", "hour", "start_at", "end_at", "sketch", "counts")
)
_SLICED = (blocks.c.slices, blocks.c.slice_counts)


def stratum_of(hour: int, season: Season) -> int:
    """The stratum of an hour's rows; `hour` is its start in seconds.

    >>> stratum_of(90_000, "hour-of-day"), stratum_of(90_000, "hour-of-week"), stratum_of(90_000, "none")
    (1, 25, 0)
    """
    return hour // 3600 % _HOURS[season]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Rows counted in the cells of their series, by stratum."""

    places: Mapping[str, slice]  # of each series in a row of cells
    strata: Mapping[int, Ints] = field(default_factory=dict)  # [cells]
    slices: Mapping[str, Mapping[int, Ints]] = field(default_factory=dict)  # the same of each slice with rows
    rows: int = 0
    first_seq: int = 0  # of predictions, of labels ("correct") or of hours ("failed")
    last_seq: int = 0
    start_at: float | None = None
    end_at: float | None = None

    def of(self, series: str) -> dict[int, Ints]:
        """Rows in each cell of one series, by stratum."""
        return {stratum: cells[self.places[series]] for stratum, cells in self.strata.items()}

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, None where no row has a truth or truth was not counted."""
        if "correct" not in self.places or not self.rows:
            return None
        wrong, right = np.sum(list(self.strata.values()), axis=0)
        return float(right / (wrong + right))

    @property
    def error_rate(self) -> float | None:
        """Share of failed requests, None where there were none or they were not counted."""
        if "failed" not in self.places or not self.rows:
            return None
        failed, answered = np.sum(list(self.strata.values()), axis=0)
        return float(failed / (failed + answered))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """Which rows to count, and how: those of one version after `after_seq`."""

    sketch: Sketch
    model: str
    version: str
    season: Season = "none"
    after_seq: int = 0
    sliced: bool = False  # count by slice too


CORRECT = {"correct": slice(0, 2)}  # cells: wrong, right
FAILED = {"failed": slice(0, 2)}  # cells: failed, answered
_LATE_S = 60  # after an hour's end, until every exporter has written what it counted


def read_tally(connection: Connection, span: Span, *, rows: int) -> Tally | None:
    """The oldest `rows` rows of the span, or None when there are fewer."""
    adder = _Adder(span)
    for block in _blocks_of(connection, span):
        adder.add(connection, block, most=rows - adder.rows)
        if adder.rows == rows:
            return adder.tally()
    return None


def read_first(connection: Connection, span: Span, *, rows: int) -> Tally | None:
    """The span's first whole blocks with at least `rows` rows; None until a later block has begun.

    Never from predictions: the first ones have moved to the lake when a version has served for a while.
    """
    adder = _Adder(span)
    query = _own(span).where(blocks.c.first_seq > span.after_seq, blocks.c.sketch == span.sketch.name)
    for block in _paged(connection, query):
        if adder.rows >= rows:
            return adder.tally()
        adder.add(connection, block, most=block.rows)
    return None


def read_period(connection: Connection, span: Span, *, period: float) -> Tally | None:
    """The rows of the span's first period, or None while it is not over.

    A period (whole hours) is over when a row of a later one has come; rows that come too late are counted
    with the period in which they came.
    """
    adder, end = _Adder(span), None
    for block in _blocks_of(connection, span):
        end = end or (block.hour // period + 1) * period
        if block.hour >= end:
            return adder.tally()
        adder.add(connection, block, most=block.rows)
    return None


def read_before(connection: Connection, span: Span, *, until_seq: int, rows: int) -> Tally | None:
    """Whole blocks with at least the last `rows` rows up to `until_seq`; None where they hold fewer."""
    adder = _Adder(span)
    query = _own(span).where(blocks.c.last_seq <= until_seq, blocks.c.sketch == span.sketch.name)
    for block in _paged(connection, query, newest_first=True):
        adder.add(connection, block, most=block.rows)
        if adder.rows >= rows:
            return adder.tally()
    return None


def read_answers(connection: Connection, model: str, version: str, *, after_label_seq: int) -> Tally:
    """Right and wrong answers whose labels came after `after_label_seq`, which numbers labels."""
    counts = (
        func.count(told()).label("rows"),
        func.count(case((told() == said(), 1))).label("right"),
        func.min(labels.c.seq).label("first_seq"),
        func.max(labels.c.seq).label("last_seq"),
    )
    unseen = first_unseen(connection, model, version, after_label_seq)
    query = labelled(model, version, *counts, after_seq=unseen)
    found = connection.execute(query).one()
    right = int(found.right)
    return Tally(
        places=CORRECT,
        strata={0: np.array([found.rows - right, right], dtype=np.int64)} if found.rows else {},
        rows=found.rows,
        first_seq=found.first_seq or after_label_seq,
        last_seq=found.last_seq or after_label_seq,
    )


def read_outcomes(connection: Connection, model: str, version: str, *, after_hour: int, now: float) -> Tally:
    """Failed and answered requests of the hours after one, as far as they are over; `last_seq` is an hour."""
    query = select(rollups.c.hour, rollups.c.bin, rollups.c.rows).where(
        rollups.c.model == model,
        rollups.c.version == version,
        rollups.c.series == outcomes.SERIES,
        rollups.c.hour > after_hour,
        rollups.c.hour <= now - HOUR_S - _LATE_S,
    )
    found = connection.execute(query).all()
    failed, answered = (sum(row.rows for row in found if row.bin == name) for name in ("failed", "answered"))
    hours = [row.hour for row in found] or [after_hour]
    return Tally(
        places=FAILED,
        strata={0: np.array([failed, answered], dtype=np.int64)} if found else {},
        rows=failed + answered,
        first_seq=min(hours),
        last_seq=max(hours),
    )


class _Adder:
    """Adds blocks and parts of blocks up, by stratum."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._packed: dict[int, list[bytes]] = {}
        self._counted: dict[int, Ints] = {}
        self._slices = SliceSum()
        self._seqs: list[int] = []
        self._times: list[float] = []
        self.rows = 0

    def add(self, connection: Connection, block: Row[Any], *, most: int) -> None:
        """At most `most` of the block's rows in the span, from predictions where not all of them count."""
        span = self._span
        if block.first_seq > span.after_seq and block.rows <= most and block.sketch == span.sketch.name:
            self._add_block(block)
            return
        after = max(span.after_seq, block.first_seq - 1)
        rows = read_rows(
            connection,
            span.model,
            span.version,
            after_seq=after,
            until_seq=block.last_seq,
            limit=most,
            metadata=span.sliced,
        )
        if rows:
            self._add_rows(rows, block)

    def _add_block(self, block: Row[Any]) -> None:
        stratum = stratum_of(block.hour, self._span.season)
        self._packed.setdefault(stratum, []).append(block.counts)
        if self._span.sliced:
            self._slices.add_block(stratum, block.slices, block.slice_counts)
        self._seqs += [block.first_seq, block.last_seq]
        self._times += [block.start_at, block.end_at]
        self.rows += block.rows

    def _add_rows(self, rows: Sequence[Row[Any]], block: Row[Any]) -> None:
        sketch, stratum = self._span.sketch, stratum_of(block.hour, self._span.season)
        placed = sketch.place(rows)
        self._counted[stratum] = self._counted.get(stratum, 0) + sketch.count(placed)
        if self._span.sliced and block.slices:
            self._slices.add(stratum, count_slices(sketch, placed, rows, block.slices))
        self._seqs += [rows[0].seq, rows[-1].seq]
        self._times += [row.at for row in rows]
        self.rows += len(rows)

    def tally(self) -> Tally:
        strata = dict(self._counted)
        for stratum, packed in self._packed.items():
            counts = np.frombuffer(b"".join(packed), dtype=np.uint8).reshape(len(packed), -1)
            strata[stratum] = strata.get(stratum, 0) + counts.sum(axis=0, dtype=np.int64)
        return Tally(
            places=self._span.sketch.places,
            strata=dict(sorted(strata.items())),
            slices=self._slices.total(),
            rows=self.rows,
            first_seq=min(self._seqs, default=0),
            last_seq=max(self._seqs, default=0),
            start_at=min(self._times, default=None),
            end_at=max(self._times, default=None),
        )


def _blocks_of(connection: Connection, span: Span) -> Iterator[Row[Any]]:
    """Blocks with rows of the span, in order; the block that holds `after_seq` itself among them."""
    before = _own(span).where(blocks.c.first_seq <= span.after_seq)
    held = connection.execute(before.order_by(blocks.c.first_seq.desc()).limit(1)).first()
    if held is not None and held.last_seq > span.after_seq:
        yield held
    yield from _paged(connection, _own(span).where(blocks.c.first_seq > span.after_seq))


def _own(span: Span) -> Select[Any]:
    chosen = (*_COLUMNS, *_SLICED) if span.sliced else _COLUMNS
    return select(*chosen).where(blocks.c.model == span.model, blocks.c.version == span.version)


def _paged(connection: Connection, query: Select[Any], *, newest_first: bool = False) -> Iterator[Row[Any]]:
    """The query's blocks in order of seq, a few at first: most windows need no more."""
    order = blocks.c.first_seq.desc() if newest_first else blocks.c.first_seq
    page, size = query.order_by(order), _FIRST_PAGE
    while found := connection.execute(page.limit(size)).all():
        yield from found
        last = found[-1].first_seq
        page = query.where(blocks.c.first_seq < last if newest_first else blocks.c.first_seq > last)
        page, size = page.order_by(order), min(4 * size, _LARGEST_PAGE)
