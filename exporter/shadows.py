"""Answers in the champion's shadow: recorded, never returned, and only while nobody waits for the engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog

from exporter.deployed import Deployed
from exporter.errors import LedgerWriteError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.prediction import Prediction
from exporter.recording import Input, recorded
from exporter.redact import Keep
from exporter.trials import shadow_id

LIMIT = 4096  # texts waiting; beyond it the oldest are dropped and counted, a shadow is a sample

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shade:
    """A text that the champion has answered, and who answers it again."""

    deployed: Deployed
    given: Input
    answered: Prediction
    queued_at: float  # monotonic


class Shadows:
    """A bounded queue; one thread, the engine's, works it off."""

    def __init__(
        self,
        ledger: Ledger,
        instruments: Instruments,
        *,
        keep: Keep,
        failed: Callable[[Deployed], None],
    ) -> None:
        self._failed = failed  # hears of a challenger whose engine raised
        self._ledger, self._instruments, self._keep = ledger, instruments, keep
        self._queue: deque[Shade] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, deployed: Deployed, pairs: Sequence[tuple[Input, Prediction]]) -> None:
        """Queue what the champion has just answered."""
        now = time.monotonic()
        self._queue.extend(Shade(deployed, given, answered, now) for given, answered in pairs)
        while len(self._queue) > LIMIT:
            self._queue.popleft()
            self._instruments.shadows_dropped.inc()

    def answer(self, texts: int) -> None:
        """Answer and record at most `texts`; what fails is logged and gone."""
        taken = [self._queue.popleft() for _ in range(min(texts, len(self._queue)))]
        for _, group in groupby(taken, key=lambda shade: id(shade.deployed)):
            shades = list(group)
            try:
                self._record(shades)
            except LedgerWriteError as error:
                self._instruments.shadows_dropped.inc(len(shades))
                _log.error("shadow_not_written", error=str(error))
            except Exception as error:  # a challenger must not take the champion's thread down
                deployed = shades[0].deployed
                kind = type(error).__qualname__
                _log.error("shadow_failed", model=deployed.model, version=deployed.version, error=kind)
                self._failed(deployed)

    def _record(self, shades: Sequence[Shade]) -> None:
        deployed = shades[0].deployed
        started = time.monotonic()
        for positions, answers in deployed.engine.stream([shade.given.text for shade in shades]):
            run_ms = (time.monotonic() - started) * 1e3
            rows = [
                recorded(
                    deployed,
                    shades[position].given,
                    answer,
                    id_=shadow_id(shades[position].answered.id),
                    at=shades[position].answered.at,
                    queue_ms=(started - shades[position].queued_at) * 1e3,
                    run_ms=run_ms,
                    keep=self._keep,
                )
                for position, answer in zip(positions, answers, strict=True)
            ]
            self._ledger.append(rows)
            self._instruments.predictions.labels(deployed.model, deployed.version).inc(len(rows))
            started = time.monotonic()
