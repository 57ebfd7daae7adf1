"""The lake: predictions older than `keep_predictions`, moved day by day from the database into Parquet files.

LAKE/MODEL/VERSION/DAY.parquet (UTC) holds the rows that no longer lie in the database; DuckDB reads them all:
`select … from read_parquet('LAKE/*/*/*.parquet')`. What is still needed stays in the database: rows that have
a label or were drawn for one, those that the monitor has not judged, and the last windows of a version that
serves (`bounds.py`). Each row lies in exactly one of the two places, whatever process dies when: a day is

1. marked: from then on its rows take no label (`exporter/labels.py`), so nothing can change them any more;
2. written under a name of its own, synced, read back and compared with the database, row by row;
3. recorded with the file's sha256: of several that wrote at once one wins;
4. put in its place; 5. removed from the database, some rows at a time; 6. sealed.

Whoever comes next goes on where the last one died.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import structlog
from sqlalchemy import Engine

from exporter.blocks import catch_up
from monitor.lake import days, files, rows
from monitor.lake.bounds import oldest_unsealed, sealable_until
from monitor.lake.days import Day

__all__ = ["Day", "seal"]
_log = structlog.get_logger("trueup.lake")


def seal(db: Engine, lake: Path, *, before: float) -> int:
    """Move the whole days (UTC) before `before`, seconds since 1970, into `lake`; returns how many rows.

    Raises LakeFileError where a file was damaged before its rows were removed; they are then still there.
    """
    moved = sum(_finish(db, lake, day) for day in days.unfinished(db))
    for model, version in days.versions_of(db):
        until = sealable_until(db, model, version)
        catch_up(db, model, version)  # what is not counted in blocks yet never would be
        while (at := oldest_unsealed(db, model, version, until)) < before // days.DAY_S * days.DAY_S:
            moved += _finish(db, lake, days.mark(db, model, version, at=at, until_seq=until))
    return moved


def _finish(db: Engine, lake: Path, day: Day) -> int:
    """Everything that is left to do for one day."""
    if day.sha256 is None:
        day = _write(db, lake, day)
    files.place(lake, day)
    removed = rows.remove(db, files.seqs(lake, day))
    files.sweep(lake, day)
    days.close(db, day)
    _log.info("sealed", file=str(files.path(lake, day)), rows=removed)
    return removed


def _write(db: Engine, lake: Path, day: Day) -> Day:
    """Write, compare and record the file; returns the day as recorded, by this process or a faster one."""
    token = files.write(lake, day, rows.pages(db, day))
    files.compare(lake, day, token, rows.pages(db, day))
    written = replace(day, token=token, sha256=files.digest(lake, day, token))
    return days.record(db, written)
