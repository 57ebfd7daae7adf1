"""The one thread that asks decoders: no more answers at a time than a graph has rows, the others wait.

An answer's last event leaves once its row is in the ledger. A client that leaves ends its answer with the
next token; what was generated until then is recorded, as cancelled. So is, as an error, what was generated
before the engine failed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from exporter.decoder_engine import DecoderEngine
from exporter.errors import (
    EngineFailedError,
    ExporterError,
    LedgerWriteError,
    QueueFullError,
    StoppingError,
)
from exporter.generating.batch import Batch
from exporter.generating.recorded import recorded
from exporter.generating.turn import Done, Event, Listener, Turn
from exporter.generation import Generation
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.prediction import Prediction
from exporter.redact import keeping
from exporter.settings import ExporterSettings

Told = tuple[Listener, Event]
_log = structlog.get_logger()


class Owner:
    """Turns in, events out."""

    def __init__(
        self,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        *,
        now: Callable[[], float],
    ) -> None:
        self._ledger, self._settings, self._instruments, self._now = ledger, settings, instruments, now
        slow = instruments.redaction_timeouts.inc
        self._keep = keeping(settings.store_text, settings.redact, timed_out=slow)
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._new: deque[Turn] = deque()
        self._batches: dict[DecoderEngine, Batch] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="generator", daemon=True)

    def __len__(self) -> int:
        """Turns that have not begun."""
        return len(self._new) + sum(len(batch.waiting) for batch in list(self._batches.values()))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        with self._lock:  # what comes later is refused: nobody would answer it
            self._stopping = True
        self._arrived.set()
        self._thread.join()

    def submit(self, turn: Turn) -> None:
        """Raises QueueFullError, StoppingError."""
        with self._lock:
            if self._stopping:
                raise StoppingError
            if len(self) >= self._settings.queue_limit:
                raise QueueFullError(self._settings.queue_limit)
            self._new.append(turn)
        self._arrived.set()

    def _work(self) -> None:
        while not (self._stopping and not self._new and not self._batches):
            try:
                self._round()
            except Exception:  # the only such thread must outlive what nobody foresaw
                _log.exception("generating_failed")

    def _round(self) -> None:
        if not self._batches and not self._new:
            self._arrived.wait(self._ledger.ages_in())
        self._ledger.renew()
        if not self._stopping:
            self._arrived.clear()
        while self._new:
            turn = self._new.popleft()
            self._batches.setdefault(turn.engine, Batch(turn.engine)).waiting.append(turn)
        for engine, batch in list(self._batches.items()):
            self._advance(batch)
            if not batch:
                del self._batches[engine]

    def _advance(self, batch: Batch) -> None:
        told: list[Told] = []
        ended = self._without_left(batch)
        try:
            for turn, piece in batch.advance():
                if piece and not turn.left:
                    told.append((turn.listener, piece))
                if turn.finish is not None:
                    ended.append(turn)
        except Exception as error:  # the thread must outlive a bad prompt; those who wait are told
            told += self._failed(batch, error)
        told += self._broken([turn for turn in ended if turn.failure is not None])
        told += self._finished([turn for turn in ended if turn.failure is None])
        deliver(told)

    def _without_left(self, batch: Batch) -> list[Turn]:
        """Take out whom nobody listens to; those who had begun to speak are to be recorded."""
        for turn in [turn for turn in batch.waiting if turn.left]:
            batch.waiting.remove(turn)
        gone = [turn for turn in batch.turns() if turn.left]
        for turn in gone:
            batch.drop(turn)
            turn.finish = "cancelled"
        return [turn for turn in gone if turn.tokens]

    def _failed(self, batch: Batch, error: Exception) -> list[Told]:
        turns = list(batch.turns())
        batch.clear()
        for turn in turns:
            turn.finish, turn.failure = "error", error
        return self._broken(turns)

    def _broken(self, turns: Sequence[Turn]) -> list[Told]:
        """Record what was generated before each failure, and tell of it."""
        for turn in turns:
            deployed = turn.deployed
            _log.error(
                "generation_failed", model=deployed.model, version=deployed.version,
                error=type(turn.failure).__qualname__, request=turn.request,
            )  # fmt: skip
        self._finished([turn for turn in turns if turn.tokens])  # they are told of a failure anyway
        return _failures(turns)

    def _finished(self, turns: Sequence[Turn]) -> list[Told]:
        """Record, then tell."""
        try:
            rows = self._recorded(turns)
        except LedgerWriteError as error:
            return [(turn.listener, error) for turn in turns]
        except Exception:  # of one row; nothing is written yet, and those beside it have done nothing
            if len(turns) > 1:
                return [one for turn in turns for one in self._finished([turn])]
            _log.exception("generation_unrecorded")
            return _failures(turns)
        return [
            (turn.listener, Done(prediction, generation, turn.text))
            for turn, (prediction, generation) in zip(turns, rows, strict=True)
        ]

    def _recorded(self, turns: Sequence[Turn]) -> list[tuple[Prediction, Generation]]:
        """Their rows, in the ledger; LedgerWriteError where it is full and answers depend on it."""
        rows = [recorded(turn, at=self._now(), keep=self._keep) for turn in turns]
        if not rows:
            return []
        try:
            self._ledger.append([prediction for prediction, _ in rows])
        except LedgerWriteError:
            self._instruments.ledger_errors.inc()
            if self._settings.on_full == "refuse":
                raise
            self._instruments.unrecorded.inc(len(rows))
        for prediction, generation in rows:
            self._count(prediction, generation)
        return rows

    def _count(self, prediction: Prediction, generation: Generation) -> None:
        found, own = self._instruments, (prediction.model, prediction.version)
        found.predictions.labels(*own).inc()
        found.prompt_tokens.labels(*own).inc(generation.prompt_tokens)
        found.answer_tokens.labels(*own).inc(generation.completion_tokens)


def _failures(turns: Sequence[Turn]) -> list[Told]:
    return [(turn.listener, _told(turn)) for turn in turns]


def _told(turn: Turn) -> ExporterError:
    """What a client is told of a failure: its own mistake, or nothing internal."""
    if isinstance(turn.failure, ExporterError):
        return turn.failure
    return EngineFailedError(turn.deployed.model, turn.deployed.version)


def deliver(told: Sequence[Told]) -> None:
    """Hand events to the loops that wait for them, one call a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[Told]] = defaultdict(list)
    for one in told:
        loops[one[0].loop].append(one)
    for loop, own in loops.items():
        with suppress(RuntimeError):  # a closed loop: nobody waits
            loop.call_soon_threadsafe(_put, own)


def _put(told: Sequence[Told]) -> None:
    for listener, event in told:
        listener.put(event)
