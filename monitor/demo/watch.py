"""What the demo reads from the database: it looks on, the monitor acts by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Engine, func, select

from exporter import registry
from exporter.tables import predictions
from monitor.errors import MonitorError
from monitor.tables import checks, evidence, jobs

T = TypeVar("T")


class DemoStuckError(MonitorError):
    """Something that should have happened did not."""

    def __init__(self, what: str, seconds: float, logs: str) -> None:
        super().__init__(f"Waited {seconds:.0f} s for {what}; look into {logs}.")


@dataclass(frozen=True, slots=True)
class Judged:
    """A check as the demo shows it."""

    id: int
    version: str
    log_e: float | None
    log_page_line: float | None
    paged: bool
    report: str | None
    effect: float | None  # of the detector that is shown


class Watch:
    """Reads of one model's story."""

    def __init__(self, db: Engine, model: str, logs: str, *, shown: str) -> None:
        self._db, self._model, self._logs, self._shown = db, model, logs, shown

    def until(self, what: str, look: Callable[[], T | None], *, timeout_s: float) -> T:
        """Poll `look` until it returns something; DemoStuckError after `timeout_s`."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            found = look()
            if found is not None:
                return found
            time.sleep(0.1)
        raise DemoStuckError(what, timeout_s, self._logs)

    def newest_seq(self) -> int:
        with self._db.connect() as connection:
            query = select(func.max(predictions.c.seq)).where(predictions.c.model == self._model)
            return connection.scalar(query) or 0

    def judged_up_to(self, seq: int) -> list[Judged] | None:
        """All checks so far, once one has judged the prediction `seq`."""
        furthest = select(func.max(checks.c.last_seq)).where(checks.c.model == self._model)
        with self._db.connect() as connection:
            last = connection.scalar(furthest)
        return self.checks() if last is not None and last >= seq else None

    def checks(self) -> list[Judged]:
        effect = (
            select(evidence.c.effect)
            .where(evidence.c.check_id == checks.c.id, evidence.c.detector == self._shown)
            .scalar_subquery()
        )
        names = ("id", "version", "log_e", "log_page_line", "paged", "report")
        query = select(*(checks.c[name] for name in names), effect.label("effect"))
        query = query.where(checks.c.model == self._model).order_by(checks.c.id)
        with self._db.connect() as connection:
            return [Judged(**row) for row in connection.execute(query).mappings()]

    def champion(self) -> str | None:
        return registry.champion(self._db, self._model)

    def last_job(self) -> dict[str, Any] | None:
        query = select(jobs).where(jobs.c.model == self._model).order_by(jobs.c.id.desc()).limit(1)
        with self._db.connect() as connection:
            row = connection.execute(query).mappings().first()
            return dict(row) if row else None
