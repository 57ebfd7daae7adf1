"""How requests ended, by the hour: answered, or failed by no fault of the client.

They are counted in memory and written as rollups with each pass of the loader: a process that is killed
loses the counts of its last pass (`load_interval_s`), never a prediction.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from exporter.blocks import hour_of
from exporter.errors import DeadlineError, EngineFailedError, LedgerWriteError
from exporter.rollups import Rollup, add_rollups

Outcome = Literal["answered", "failed"]
SERIES = "outcome"  # of rollups; its bins are Outcomes
# Ours to mend. A full queue asks the client to come back, and an unknown model is the client's mistake.
FAILURES = (EngineFailedError, DeadlineError, LedgerWriteError)


class Outcomes:
    """Counts that several threads may add to and write."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now, self._lock = now, threading.Lock()
        self._counts: Counter[Rollup] = Counter()

    def add(self, model: str, version: str, outcome: Outcome) -> None:
        """Count one request."""
        with self._lock:
            self._counts[model, version, hour_of(self._now()), SERIES, outcome] += 1

    def write(self, db: Engine) -> None:
        """Add the counts to the database; where it does not answer they wait. Raises SQLAlchemyError."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        if not taken:
            return
        try:
            with db.begin() as connection:
                add_rollups(connection, taken)
        except SQLAlchemyError:
            with self._lock:
                self._counts += taken
            raise
