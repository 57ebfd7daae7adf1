"""From an engine's answers to replies: recorded, told, measured, and queued for the challenger's shadow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import structlog

from exporter.backlog import Piece, given_of
from exporter.deployed import Fleet
from exporter.errors import EngineFailedError, LedgerWriteError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.prediction import Prediction
from exporter.recording import prediction_id, recorded
from exporter.redact import Keep
from exporter.settings import OnFull
from exporter.shadows import Shadows
from exporter.tracing import Tracing
from exporter.waiting import Waiting, deliver, fail

LOG_S = 10.0  # a full disk is told again after so long, not for every micro-batch

_log = structlog.get_logger()


class Replying:
    """Used by the answering thread alone. Nothing is told that the ledger has not."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        shadows: Shadows,
        instruments: Instruments,
        on_full: OnFull,
        *,
        keep: Keep,
        now: Callable[[], float],
        tracing: Tracing | None,
    ) -> None:
        self._fleet, self._ledger, self._shadows, self._instruments = fleet, ledger, shadows, instruments
        self._on_full, self._keep, self._now, self._tracing = on_full, keep, now, tracing
        self._told_at = -LOG_S

    def reply(self, pieces: Sequence[Piece]) -> None:
        """Record answers of one version with one write, and hand them out."""
        asked = [cast(Waiting, piece.asked) for piece in pieces]
        try:
            rows = [self._recorded(piece) for piece in pieces]
            began = time.monotonic()
            written = self._written(rows, asked)
        except Exception as error:  # of one row, nothing is written yet: those beside it have done nothing
            self._one_by_one(pieces, error)
            return
        if not written:
            return
        ended = time.monotonic()
        deliver(list(zip(asked, rows, strict=True)))
        self._shade(pieces, rows)
        deployed, told = pieces[0].deployed, self._instruments
        told.predictions.labels(deployed.model, deployed.version).inc(len(rows))
        told.part_observers[-1](ended - began)
        if self._tracing is not None:
            self._trace(self._tracing, pieces, (began, ended))

    def _one_by_one(self, pieces: Sequence[Piece], error: Exception) -> None:
        """Find the row that cannot be recorded; whoever waits for it is told."""
        if len(pieces) > 1:
            for piece in pieces:
                self.reply([piece])
            return
        deployed = pieces[0].deployed
        _log.error(
            "answer_unrecorded",
            model=deployed.model,
            version=deployed.version,
            error=type(error).__qualname__,
        )
        request, _ = cast(Waiting, pieces[0].asked)
        fail([request], EngineFailedError(deployed.model, deployed.version))

    def measure(self, batch: Sequence[Piece]) -> None:
        """A micro-batch that was run."""
        first, told = batch[0], self._instruments
        ran = first.finished - first.started
        told.run_seconds.labels(first.deployed.model).observe(ran)
        told.batch_texts.observe(len(batch))
        told.batch_tokens.observe(sum(len(piece.encoded.ids) for piece in batch))
        waited = first.started - min(piece.queued_at for piece in batch)
        tokenised = sum(ended - began for began, ended in (piece.tokenising for piece in batch))
        for observe, seconds in zip(told.part_observers, (waited, tokenised, ran), strict=False):
            observe(seconds)

    def _recorded(self, piece: Piece) -> Prediction:
        assert piece.answer is not None
        now = self._now()
        return recorded(
            piece.deployed,
            given_of(piece.asked),
            piece.answer,
            id_=prediction_id(now),
            at=now,
            queue_ms=(piece.started - piece.queued_at) * 1e3,
            run_ms=(piece.finished - piece.started) * 1e3,
            keep=self._keep,
        )

    def _written(self, rows: Sequence[Prediction], asked: Sequence[Waiting]) -> bool:
        """Whether the rows may be answered: they are in the ledger, or the settings let it go without."""
        try:
            self._ledger.append(rows)
        except LedgerWriteError as error:
            self._instruments.ledger_errors.inc()
            if time.monotonic() - self._told_at >= LOG_S:
                self._told_at = time.monotonic()
                _log.error("ledger_not_written", error=str(error), on_full=self._on_full)
            if self._on_full == "refuse":
                fail((request for request, _ in asked), error)
                return False
            self._instruments.unrecorded.inc(len(rows))
        return True

    def _shade(self, pieces: Sequence[Piece], rows: Sequence[Prediction]) -> None:
        """Let the challenger answer the same texts once nobody waits."""
        deployed = pieces[0].deployed
        shadow = self._fleet.shadow(deployed.model) if deployed.role == "champion" else None
        if shadow is not None:
            self._shadows.add(
                shadow, list(zip((given_of(piece.asked) for piece in pieces), rows, strict=True))
            )

    def _trace(self, tracing: Tracing, pieces: Sequence[Piece], ledger: tuple[float, float]) -> None:
        first = {id(piece.asked[0]): piece for piece in reversed(pieces) if isinstance(piece.asked, tuple)}
        for piece in first.values():
            span = cast(Waiting, piece.asked)[0].span
            if span is not None:
                part = partial(tracing.part, span)
                part("queue", piece.queued_at, piece.started)
                part("tokenise", *piece.tokenising)
                part("run", piece.started, piece.finished)
                part("ledger", *ledger)
