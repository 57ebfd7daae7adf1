"""Texts in, recorded predictions out: a greedy queue, one engine thread, versions swapped underneath.

No timer: while a micro-batch runs, the next texts gather. A request is answered by the version that served
when it arrived, so a swap fails nobody; the old version goes with its last request.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from exporter.deployed import Deployed, Fleet
from exporter.engines import Answer
from exporter.errors import (
    DeadlineError,
    EngineFailedError,
    ExporterError,
    LedgerWriteError,
    QueueFullError,
    StoppingError,
)
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.prediction import Metadata, Prediction
from exporter.redact import kept_text
from exporter.settings import ExporterSettings

TAKE = 64  # texts looked at together: enough to sort by length, few enough to answer soon

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Input:
    """A text as the engine may see it (see redact.storable), and the client's own slices."""

    text: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    model: str
    version: str
    labels: Sequence[str]
    predictions: list[Prediction]  # in the order of the inputs


@dataclass(slots=True)
class _Request:
    deployed: Deployed
    inputs: Sequence[Input]
    queued_at: float  # monotonic
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    done: dict[int, Prediction] = field(default_factory=dict)


_Waiting = tuple[_Request, int]


class Service:
    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.fleet = fleet
        self._ledger, self._settings, self._instruments, self._now = ledger, settings, instruments, now
        self._queue: deque[_Waiting] = deque()
        self._arrived = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what is queued, then end."""
        self._stopping = True
        self._arrived.set()
        self._thread.join()

    async def predict(self, model: str, inputs: Sequence[Input]) -> Served:
        """Answered and recorded predictions.

        Raises UnknownModelError, QueueFullError, DeadlineError, StoppingError, LedgerWriteError,
        EngineFailedError.
        """
        deployed = self.fleet.deployed(model)
        if self._stopping:
            raise StoppingError
        if len(self._queue) + len(inputs) > self._settings.queue_limit:
            raise QueueFullError(self._settings.queue_limit)
        loop = asyncio.get_running_loop()
        request = _Request(deployed, inputs, time.monotonic(), loop, loop.create_future())
        self._queue.extend((request, position) for position in range(len(inputs)))
        self._arrived.set()
        await request.future
        ordered = [request.done[position] for position in range(len(inputs))]
        return Served(model, deployed.version, deployed.engine.labels, ordered)

    def _work(self) -> None:
        while not (self._stopping and not self._queue):
            self._arrived.wait()
            if not self._stopping:
                self._arrived.clear()
            while self._queue:
                taken = [self._queue.popleft() for _ in range(min(TAKE, len(self._queue)))]
                self._instruments.queue.set(len(self._queue))
                self._answer_all(taken)

    def _answer_all(self, taken: Sequence[_Waiting]) -> None:
        oldest = time.monotonic() - self._settings.deadline_s
        late = [waiting for waiting in taken if waiting[0].queued_at < oldest]
        if late:
            _fail(late, DeadlineError(self._settings.deadline_s))
        alive = [waiting for waiting in taken if waiting[0].queued_at >= oldest]
        alive.sort(key=_engine_of)
        for _, group in groupby(alive, key=_engine_of):
            self._answer(list(group))

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        deployed = batch[0][0].deployed
        try:
            started = time.monotonic()
            texts = [request.inputs[position].text for request, position in batch]
            for positions, answers in deployed.engine.stream(texts):
                finished = time.monotonic()
                self._record([batch[position] for position in positions], answers, started, finished)
                started = time.monotonic()
        except Exception as error:  # the thread must outlive a bad text; the requests are told
            _log.error("engine_failed", model=deployed.model, version=deployed.version, error=_name(error))
            _fail(batch, EngineFailedError(deployed.model, deployed.version))

    def _record(
        self, batch: Sequence[_Waiting], answers: Sequence[Answer], started: float, finished: float
    ) -> None:
        run_ms = (finished - started) * 1e3
        rows = [
            self._prediction(request, position, answer, started, run_ms)
            for (request, position), answer in zip(batch, answers, strict=True)
        ]
        try:
            self._ledger.append(rows)
        except LedgerWriteError as error:
            _log.error("ledger_not_written", error=str(error))
            self._instruments.ledger_errors.inc()
            _fail(batch, error)
            return
        _deliver(batch, rows)
        self._measure(batch[0][0].deployed, len(rows), finished - started)

    def _prediction(
        self, request: _Request, position: int, answer: Answer, started: float, run_ms: float
    ) -> Prediction:
        given = request.inputs[position]
        deployed = request.deployed
        now = self._now()
        return Prediction(
            id=prediction_id(now),
            model=deployed.model,
            version=deployed.version,
            role="champion",
            at=now,
            text=kept_text(given.text, self._settings.store_text),
            label=deployed.engine.labels[answer.label_index],
            score=answer.scores[answer.label_index],
            scores=answer.scores,
            embedding=answer.embedding,
            similarity=answer.similarity,
            tokens=answer.tokens,
            characters=len(given.text),
            truncated=answer.truncated,
            queue_ms=round((started - request.queued_at) * 1e3, 3),
            run_ms=round(run_ms, 3),
            metadata=given.metadata,
        )

    def _measure(self, deployed: Deployed, texts: int, seconds: float) -> None:
        self._instruments.predictions.labels(deployed.model, deployed.version).inc(texts)
        self._instruments.run_seconds.labels(deployed.model).observe(seconds)
        self._instruments.batch_texts.labels(deployed.model).observe(texts)


def prediction_id(now: float) -> str:
    """Unique, and sorting by millisecond, so that the database's index grows at its end."""
    return f"{int(now * 1e3):012x}{os.urandom(10).hex()}"


def _deliver(batch: Sequence[_Waiting], rows: Sequence[Prediction]) -> None:
    for loop, pairs in _by_loop(zip(batch, rows, strict=True)):
        loop.call_soon_threadsafe(_resolve, pairs)


def _by_loop(
    pairs: Iterable[tuple[_Waiting, Prediction]],
) -> list[tuple[asyncio.AbstractEventLoop, list[tuple[_Waiting, Prediction]]]]:
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Prediction]]] = {}
    for pair in pairs:
        loops.setdefault(pair[0][0].loop, []).append(pair)
    return list(loops.items())


def _resolve(pairs: Sequence[tuple[_Waiting, Prediction]]) -> None:
    for (request, position), row in pairs:
        request.done[position] = row
        if len(request.done) == len(request.inputs) and not request.future.done():
            request.future.set_result(None)


def _fail(batch: Sequence[_Waiting], error: ExporterError) -> None:
    for request in {id(request): request for request, _ in batch}.values():
        request.loop.call_soon_threadsafe(_reject, request.future, error)


def _reject(future: asyncio.Future[None], error: ExporterError) -> None:
    if not future.done():
        future.set_exception(error)


def _engine_of(waiting: _Waiting) -> int:
    return id(waiting[0].deployed)


def _name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
