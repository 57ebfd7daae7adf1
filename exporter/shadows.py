"""Answers in the champion's shadow: recorded, never returned, and only while nobody waits for the engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

import structlog

from exporter.backlog import Piece, Shade
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


class Shadows:
    """A bounded queue; one thread, which answers, works it off."""

    def __init__(
        self,
        ledger: Ledger,
        instruments: Instruments,
        *,
        keep: Keep,
        failed: Callable[[Deployed], None],
    ) -> None:
        self._take_back = failed  # hears of a challenger whose engine raised
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

    def take(self, texts: int) -> list[Shade]:
        """The oldest, at most `texts`, of one version."""
        taken: list[Shade] = []
        while len(taken) < min(texts, len(self._queue) + len(taken)):
            if taken and self._queue[0].deployed is not taken[0].deployed:
                break
            taken.append(self._queue.popleft())
        return taken

    def failed(self, deployed: Deployed, error: Exception) -> None:
        """A challenger must not take the champion down: what it failed on is gone, and so is the trial."""
        kind = type(error).__qualname__
        _log.error("shadow_failed", model=deployed.model, version=deployed.version, error=kind)
        self._take_back(deployed)

    def record(self, pieces: Sequence[Piece]) -> None:
        """Record a micro-batch; one that the ledger does not take is counted as dropped."""
        deployed = pieces[0].deployed
        try:
            self._ledger.append([self._row(piece, cast(Shade, piece.asked)) for piece in pieces])
        except LedgerWriteError as error:
            self._instruments.shadows_dropped.inc(len(pieces))
            _log.error("shadow_not_written", error=str(error))
        else:
            self._instruments.predictions.labels(deployed.model, deployed.version).inc(len(pieces))

    def _row(self, piece: Piece, shade: Shade) -> Prediction:
        assert piece.answer is not None
        return recorded(
            piece.deployed,
            shade.given,
            piece.answer,
            id_=shadow_id(shade.answered.id),
            at=shade.answered.at,
            queue_ms=(piece.started - shade.queued_at) * 1e3,
            run_ms=(piece.finished - piece.started) * 1e3,
            keep=self._keep,
        )
