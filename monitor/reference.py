"""What a version's rows are held to: its sealed hold-out or, with a season, its first season of traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy import Connection, Engine, Row, func, select

from exporter.database import upsert
from exporter.sketch import Sketch
from exporter.sketches import read_sketch
from exporter.slices import key_of
from exporter.tables import blocks
from monitor.errors import NoReferenceError
from monitor.ranks import Ints
from monitor.settings import Season
from monitor.tables import seasons, slice_references
from monitor.tallies import CORRECT, FAILED, Span, Tally, read_first, read_tally

_SEASON_S = {"hour-of-day": 86400, "hour-of-week": 604800}
_MILLION = 1_000_000
FIRST_ROWS = 1000  # of a version: latency has no replayed reference
SLICE_ROWS = 200  # of a slice, at least: hold-outs know no metadata


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Reference rows in the cells of every series, by stratum."""

    model: str
    version: str
    sketch: Sketch
    season: Season = "none"
    strata: Mapping[int, Ints] = field(default_factory=dict)  # [cells]; empty until the season is complete
    last_seq: int = 0  # rows up to this one are reference themselves
    first: Tally | None = None  # the version's first rows
    error_rate: float = 0.01  # share of requests that may fail: stated, not observed

    def of(self, series: str) -> dict[int, Ints]:
        """Rows in each cell of one series, by stratum.

        Answers are held to the hold-out, whatever the season: an hour at which the model errs more is a loss.
        """
        sketch = self.sketch
        if series in CORRECT:
            return {0: np.array([sketch.wrong.sum(), sketch.right.sum()])}
        if series in FAILED:
            tolerated = round(self.error_rate * _MILLION)
            return {0: np.array([tolerated, _MILLION - tolerated])}
        if series == "latency":
            return self.first.of(series) if self.first else {}
        if self.season == "none":
            return {0: sketch.reference[series]}
        return {stratum: cells[sketch.places[series]] for stratum, cells in self.strata.items()}

    def counts(self, series: str) -> bool:
        """Whether the version's rows have this series: answers are described of language models only."""
        return series in (*self.sketch.series, *CORRECT, *FAILED)

    def span(self, after_seq: int, *, sliced: bool = False) -> Span:
        """The rows after one, to be counted against this reference."""
        return Span(
            sketch=self.sketch,
            model=self.model,
            version=self.version,
            season=self.season,
            after_seq=after_seq,
            sliced=sliced,
        )

    @property
    def complete(self) -> bool:
        """Whether predictions can be bet on yet."""
        return self.season == "none" or bool(self.strata)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceReference:
    """A slice's first rows under a version, in the cells of `sketch.slice_places`, by stratum.

    It takes the slice's rows of whole windows until they are SLICE_ROWS, and span the season where there is
    one. When that is depends on metadata and times, never on answers. These rows are never bet on.
    """

    model: str
    version: str
    slice: str
    sketch: Sketch
    season: Season = "none"
    strata: Mapping[int, Ints] = field(default_factory=dict)
    start_at: float = 0.0
    frozen: bool = False

    def of(self, series: str) -> dict[int, Ints]:
        """Rows in each cell of one series, by stratum."""
        own = self.sketch.slice_places[series]
        return {stratum: cells[own] for stratum, cells in self.strata.items()}

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return sum(int(cells.sum()) for cells in self.of("label").values())

    def grown(self, window: Tally) -> SliceReference:
        """With the slice's rows of one more window, frozen if they are enough."""
        strata = dict(self.strata)
        for stratum, cells in window.slices[self.slice].items():
            strata[stratum] = strata.get(stratum, 0) + cells
        start_at = self.start_at if self.strata else (window.start_at or 0.0)
        more = replace(self, strata=dict(sorted(strata.items())), start_at=start_at)
        spanned = (window.end_at or 0.0) - start_at >= _SEASON_S.get(self.season, 0)
        return replace(more, frozen=spanned and more.rows >= SLICE_ROWS)


def read_slice_references(connection: Connection, reference: Reference) -> dict[str, SliceReference]:
    """The references of the slices that came so far, whether frozen or not, by name."""
    sketch, own = reference.sketch, slice_references.c
    query = select(slice_references).where(
        own.model == reference.model,
        own.version == reference.version,
        own.season == reference.season,
        own.sketch == sketch.name,
    )
    rows = [
        row for row in connection.execute(query.order_by(own.slice)) if key_of(row.slice) in sketch.slices
    ]
    return {row.slice: _slice_reference(row, reference) for row in rows}


def _slice_reference(row: Row[tuple[object, ...]], reference: Reference) -> SliceReference:
    return SliceReference(
        model=row.model,
        version=row.version,
        slice=row.slice,
        sketch=reference.sketch,
        season=reference.season,
        strata={int(key): np.array(cells) for key, cells in row.strata.items()},
        start_at=row.start_at,
        frozen=row.frozen_at is not None,
    )


def write_slice_references(connection: Connection, grown: Iterable[SliceReference], now: float) -> None:
    """Keep what has grown; one that is frozen is never handed in again."""
    for one in grown:
        row = {
            "season": one.season,
            "sketch": one.sketch.name,
            "strata": {str(key): cells.tolist() for key, cells in one.strata.items()},
            "start_at": one.start_at,
            "frozen_at": now if one.frozen else None,
        }
        statement = upsert(slice_references, connection.dialect.name).values(
            model=one.model, version=one.version, slice=one.slice, **row
        )
        connection.execute(
            statement.on_conflict_do_update(index_elements=["model", "version", "slice"], set_=row)
        )


def read_live_reference(connection: Connection, model: str, version: str, season: Season) -> Reference:
    """What the version's next rows are held to. Raises NoReferenceError."""
    sketch = read_sketch(connection, model, version)
    if sketch is None:
        raise NoReferenceError(model, version)
    span = Span(sketch=sketch, model=model, version=version)
    first = read_first(connection, span, rows=FIRST_ROWS)
    if season == "none":
        return Reference(model=model, version=version, sketch=sketch, first=first)
    found = connection.execute(
        select(seasons).where(
            seasons.c.model == model, seasons.c.version == version, seasons.c.season == season
        )
    ).first()
    fits = found is not None and found.sketch == sketch.name
    return Reference(
        model=model,
        version=version,
        sketch=sketch,
        season=season,
        strata={int(key): np.array(cells) for key, cells in found.strata.items()} if found and fits else {},
        last_seq=found.last_seq if found and fits else 0,
        first=first,
    )


def freeze_season(db: Engine, model: str, version: str, season: Season, *, now: float) -> bool:
    """Make the version's first complete season its reference, once; returns whether it is frozen.

    The season begins with the hour of the first row and ends before the first row of a later season. Its
    rows are never bet on: that is the price of a season, a day or a week without a page for drift.
    """
    if season == "none":
        return True
    own = (seasons.c.model == model, seasons.c.version == version, seasons.c.season == season)
    with db.begin() as connection:
        sketch = read_sketch(connection, model, version)
        if sketch is None:
            return False
        if connection.scalar(select(seasons.c.sketch).where(*own)) == sketch.name:
            return True
        tally = _first_season(connection, sketch, model, version, season)
        if tally is None:
            return False
        row = {
            "last_seq": tally.last_seq,
            "sketch": sketch.name,
            "strata": {str(key): cells.tolist() for key, cells in tally.strata.items()},
            "frozen_at": now,
        }
        statement = upsert(seasons, connection.dialect.name).values(
            model=model, version=version, season=season, **row
        )
        connection.execute(
            statement.on_conflict_do_update(index_elements=["model", "version", "season"], set_=row)
        )
    return True


def _first_season(
    connection: Connection, sketch: Sketch, model: str, version: str, season: Season
) -> Tally | None:
    own = (blocks.c.model == model, blocks.c.version == version)
    first = connection.scalar(select(blocks.c.hour).where(*own).order_by(blocks.c.first_seq).limit(1))
    if first is None:
        return None
    later = blocks.c.hour >= first + _SEASON_S[season]
    end = connection.scalar(select(func.min(blocks.c.first_seq)).where(*own, later))
    if end is None:
        return None
    rows = connection.scalar(select(func.sum(blocks.c.rows)).where(*own, blocks.c.first_seq < end))
    span = Span(sketch=sketch, model=model, version=version, season=season)
    return read_tally(connection, span, rows=int(rows or 0))
