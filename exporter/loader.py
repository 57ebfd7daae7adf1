"""Ledger to database: rows, hourly rollups and the position they came from, in one transaction.

Whoever dies when, the position says what is in the database: nothing is missing and nothing is doubled.
Several loaders may work on one folder; the write lock orders them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import structlog
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from exporter import blocks
from exporter.database import lock_order, upsert
from exporter.descriptors import LANGUAGES
from exporter.forgetting import without_forgotten
from exporter.generation import insert_generations
from exporter.inserting import insert_predictions
from exporter.ledger import (
    LOCK,
    PROBE,
    SUFFIX,
    Damage,
    Reading,
    read_segment,
    segment_sizes,
    segments,
    writer_is_dead,
)
from exporter.outcomes import Outcomes
from exporter.prediction import Prediction
from exporter.rollups import Rollup, add_rollups
from exporter.tables import ledger_positions
from trainer.tasks import watched

BINS = 20
BIN_CHARACTERS = 200

_log = structlog.get_logger()
Damaged = Literal["torn", "damaged"]


Told = Callable[[Damaged], None]


def _nobody(kind: Damaged) -> None:
    """Hear of damages, where only the log is to tell them."""


def load_once(db: Engine, folder: Path, *, damaged: Told = _nobody) -> int:
    """Load everything that lies in `folder`; returns the number of new rows.

    Segments that are complete and loaded are removed. Torn tails of dead writers are cut off, damages set
    aside; both are logged and told to `damaged`.
    """
    loaded = 0
    for writer, paths in segments(folder):
        dead = writer_is_dead(folder, writer)
        for path in paths:
            last = path == paths[-1]
            complete = dead or not last
            loaded += _load_segment(db, f"{writer}/{path.name}", path, complete=complete, damaged=damaged)
        if dead:
            _remove_writer(folder / writer)
    return loaded


def store(connection: Connection, rows: Sequence[Prediction]) -> None:
    """Insert predictions, their rollups and blocks; serial numbers become visible in order."""
    if not rows:
        return
    lock_order(connection, blocks.LOADING)
    blocks.add(connection, rows, insert_predictions(connection, rows))
    insert_generations(connection, [(row.id, row.generation) for row in rows if row.generation is not None])
    add_rollups(connection, rolled_up(rows))


def rolled_up(rows: Sequence[Prediction]) -> Counter[Rollup]:
    """Counts by (model, version, hour, series, bin)."""
    counts: Counter[Rollup] = Counter()
    for row in rows:
        hour = blocks.hour_of(row.at)
        for series, value in _bins(row):
            counts[row.model, row.version, hour, series, value] += 1
    return counts


def bin_name(value: float) -> str:
    """Lower edge of the twentieth that `value` in [-1, 1] falls into.

    >>> bin_name(0.97), bin_name(1.0), bin_name(-0.01)
    ('0.95', '0.95', '-0.05')
    """
    return f"{min(int(value * BINS // 1), BINS - 1) / BINS:.2f}"


class Loader:
    """A thread that loads every `interval_s` and writes `outcomes`; `stop` does so once more."""

    def __init__(
        self,
        db: Engine,
        folder: Path,
        *,
        interval_s: float,
        loaded: Callable[[int], None] = lambda _: None,
        damaged: Told = _nobody,
        outcomes: Outcomes | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._folder, self._interval_s, self._loaded = db, folder, interval_s, loaded
        self._damaged, self._outcomes = damaged, outcomes
        self._now, self._loaded_at, self._sizes = now, now(), dict[Path, int]()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ledger-loader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def lag(self) -> tuple[float, int]:
        """Seconds since the whole ledger was in the database, 0 while it is, and the bytes that are not."""
        behind = sum(
            max(0, size - self._sizes.get(path, 0)) for path, size in segment_sizes(self._folder).items()
        )
        return (self._now() - self._loaded_at if behind else 0.0), behind

    def run_once(self) -> None:
        """One pass. A database that does not answer is logged; the ledger keeps the rows."""
        began = self._now()
        sizes = segment_sizes(self._folder)  # what is written meanwhile waits for the next pass
        try:
            rows = load_once(self._db, self._folder, damaged=self._damaged)
            if self._outcomes is not None:
                self._outcomes.write(self._db)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("ledger_not_loaded", error=type(error).__name__)
            return
        self._loaded_at, self._sizes = began, sizes
        if rows:
            self._loaded(rows)

    def _work(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._pass()
        self._pass()

    def _pass(self) -> None:
        try:
            self.run_once()
        except Exception:  # the loop must outlive what nobody foresaw; the ledger keeps the rows
            _log.exception("ledger_loader_failed")


def _load_segment(db: Engine, name: str, path: Path, *, complete: bool, damaged: Told) -> int:
    rows = 0
    with suppress(FileNotFoundError):  # another loader finished it
        while _has_more(db, name, path, complete=complete):
            before, reading, finished = _load_part(db, name, path, complete=complete)
            for _ in reading.damages:
                damaged("damaged")
            if reading.torn and finished:
                damaged("torn")
            rows += len(reading.predictions)
            if finished:
                path.unlink()
            if finished or reading.position == before:
                break
    return rows


def _has_more(db: Engine, name: str, path: Path, *, complete: bool) -> bool:
    """Looked up without the write lock, which an idle loader must not take five times a second."""
    with db.connect() as connection:
        position, sealed = _position(connection, name)
    if sealed:  # a crash came between the commit and the removal
        path.unlink()
        return False
    return complete or path.stat().st_size > position


def _load_part(db: Engine, name: str, path: Path, *, complete: bool) -> tuple[int, Reading, bool]:
    """One transaction: the position before it, what was read, and whether the segment is finished."""
    with db.begin() as connection:
        lock_order(connection, blocks.LOADING)
        before, _ = _position(connection, name)
        reading = read_segment(path, before)
        finished = complete and (reading.torn or reading.position == path.stat().st_size)
        for damage in reading.damages:
            _set_aside(path, damage)
        store(connection, without_forgotten(connection, reading.predictions))
        if finished or reading.position > before:
            _move(connection, name, reading.position, sealed=finished)
    if reading.torn and finished:
        lost = path.stat().st_size - reading.position
        _log.warning("ledger_tail_torn", segment=name, position=reading.position, bytes=lost)
    return before, reading, finished


def _position(connection: Connection, name: str) -> tuple[int, bool]:
    query = select(ledger_positions.c.position, ledger_positions.c.sealed)
    row = connection.execute(query.where(ledger_positions.c.segment == name)).one_or_none()
    return (row.position, row.sealed) if row else (0, False)


def _move(connection: Connection, name: str, position: int, *, sealed: bool) -> None:
    values = {"position": position, "sealed": sealed}
    moved = upsert(ledger_positions, connection.dialect.name).values(segment=name, **values)
    connection.execute(moved.on_conflict_do_update(index_elements=["segment"], set_=values))


def _set_aside(path: Path, damage: Damage) -> None:
    """Keep damaged bytes for whoever looks into it; the rest of the segment goes on."""
    folder = path.parent.parent / ".damaged"
    folder.mkdir(exist_ok=True)
    with path.open("rb") as file:
        file.seek(damage.start)
        kept = folder / f"{path.parent.name}-{path.stem}-{damage.start}"
        kept.write_bytes(file.read(damage.end - damage.start))
    _log.error("ledger_damaged", segment=str(path), start=damage.start, end=damage.end, kept=str(kept))


def _remove_writer(folder: Path) -> None:
    """Remove a dead writer's folder once its segments are gone."""
    with suppress(OSError):
        if not any(folder.glob(f"*{SUFFIX}")):
            for name in (LOCK, PROBE):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def _label_bin(label: str) -> str:
    """A bin is part of a key, whose length databases bound."""
    told = watched(label)
    return told if len(told) <= BIN_CHARACTERS else f"{told[:BIN_CHARACTERS]}…"


def _bins(row: Prediction) -> list[tuple[str, str]]:
    label = _label_bin(row.label)
    bins = [
        ("label", label),
        ("confidence", bin_name(row.score)),
        ("label_confidence", f"{label}|{bin_name(row.score)}"),
        ("tokens", str(1 << max(row.tokens - 1, 0).bit_length())),
    ]
    if row.similarity is not None:
        bins.append(("similarity", bin_name(row.similarity)))
    non_letters, repetition, language = (row.descriptors or (None, None, None))[:3]
    if non_letters is not None:
        bins.append(("non_letters", bin_name(non_letters)))
    if repetition is not None:
        bins.append(("repetition", bin_name(repetition)))
    if language is not None:
        bins.append(("language", LANGUAGES[int(language)]))
    return bins
