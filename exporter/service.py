"""Texts in, recorded predictions out: a greedy queue, one engine thread, versions swapped underneath.

No timer: while a micro-batch runs, the next texts gather. A request is answered by the version that served
when it arrived, so a swap fails nobody; the old version goes with its last request.
"""

from __future__ import annotations

import asyncio
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
from exporter.outcomes import FAILURES, Outcomes
from exporter.prediction import Prediction
from exporter.recording import Input, prediction_id, recorded
from exporter.settings import ExporterSettings
from exporter.shadows import Shadows

SHADOW_TAKE = 8  # texts of a shadow that somebody may have to wait for
TAKE = 64  # texts looked at together: enough to sort by length, few enough to answer soon

_log = structlog.get_logger()


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
    begun: bool = False  # an answer is on its way


_Waiting = tuple[_Request, int]


class Service:
    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        *,
        outcomes: Outcomes | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.fleet = fleet
        self._ledger, self._settings, self._instruments, self._now = ledger, settings, instruments, now
        self._outcomes = outcomes or Outcomes(now)
        self._queue: deque[_Waiting] = deque()
        self._shadows = Shadows(ledger, instruments, policy=settings.store_text, failed=fleet.take_back)
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
        deployed = self.fleet.route(model, self._key(inputs[0]))
        if self._stopping:
            raise StoppingError
        if len(self._queue) + len(inputs) > self._settings.queue_limit:
            raise QueueFullError(self._settings.queue_limit)
        loop = asyncio.get_running_loop()
        request = _Request(deployed, inputs, time.monotonic(), loop, loop.create_future())
        self._queue.extend((request, position) for position in range(len(inputs)))
        self._arrived.set()
        try:
            await request.future
        except FAILURES:
            self._outcomes.add(model, request.deployed.version, "failed")
            raise
        self._outcomes.add(model, request.deployed.version, "answered")
        ordered = [request.done[position] for position in range(len(inputs))]
        answered = request.deployed  # the champion, where a canary failed
        return Served(model, answered.version, answered.engine.labels, ordered)

    def _key(self, first: Input) -> str:
        """What a canary draws by: the client's own key where it sends one, otherwise the text."""
        return str(first.metadata.get(self._settings.sticky_key) or first.text)

    def _work(self) -> None:
        while not (self._stopping and not self._queue):
            if not self._shadows:
                self._arrived.wait()
            if not self._stopping:
                self._arrived.clear()
            if not self._queue:
                self._shadows.answer(SHADOW_TAKE)
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
            stream = deployed.engine.stream(texts)
            # A canary's answers leave together, so that the champion can answer in its place.
            for positions, answers in list(stream) if deployed.role == "canary" else stream:
                finished = time.monotonic()
                self._record([batch[position] for position in positions], answers, started, finished)
                started = time.monotonic()
        except Exception as error:  # the thread must outlive a bad text; the requests are told
            _log.error("engine_failed", model=deployed.model, version=deployed.version, error=_name(error))
            self._failed(batch, deployed)

    def _failed(self, batch: Sequence[_Waiting], deployed: Deployed) -> None:
        """Let the champion answer what a canary could not; a request that it answered in part has failed."""
        if deployed.role == "canary":
            self.fleet.take_back(deployed)
            whole = [waiting for waiting in batch if not waiting[0].begun]
            champion = self.fleet.deployed(deployed.model)
            for request, _ in whole:
                request.deployed = champion
            if whole:
                self._answer(whole)
            batch = [waiting for waiting in batch if waiting[0].begun and waiting[0].deployed is deployed]
        if batch:
            _fail(batch, EngineFailedError(deployed.model, deployed.version))

    def _record(
        self, batch: Sequence[_Waiting], answers: Sequence[Answer], started: float, finished: float
    ) -> None:
        run_ms = (finished - started) * 1e3
        rows = [
            self._recorded(request, position, answer, started, run_ms)
            for (request, position), answer in zip(batch, answers, strict=True)
        ]
        written = time.monotonic()
        try:
            self._ledger.append(rows)
        except LedgerWriteError as error:
            _log.error("ledger_not_written", error=str(error))
            self._instruments.ledger_errors.inc()
            _fail(batch, error)
            return
        for request, _ in batch:
            request.begun = True
        _deliver(batch, rows)
        self._shade(batch, rows)
        self._measure(batch[0][0].deployed, len(rows), finished - started)
        waited = started - min(request.queued_at for request, _ in batch)
        self._parts(queue=waited, engine=finished - started, ledger=time.monotonic() - written)

    def _recorded(
        self, request: _Request, position: int, answer: Answer, started: float, run_ms: float
    ) -> Prediction:
        now = self._now()
        return recorded(
            request.deployed,
            request.inputs[position],
            answer,
            id_=prediction_id(now),
            at=now,
            queue_ms=(started - request.queued_at) * 1e3,
            run_ms=run_ms,
            policy=self._settings.store_text,
        )

    def _shade(self, batch: Sequence[_Waiting], rows: Sequence[Prediction]) -> None:
        """Let the challenger answer the same texts once nobody waits."""
        deployed = batch[0][0].deployed
        shadow = self.fleet.shadow(deployed.model) if deployed.role == "champion" else None
        if shadow is not None:
            given = (request.inputs[position] for request, position in batch)
            self._shadows.add(shadow, list(zip(given, rows, strict=True)))

    def _measure(self, deployed: Deployed, texts: int, seconds: float) -> None:
        self._instruments.predictions.labels(deployed.model, deployed.version).inc(texts)
        self._instruments.run_seconds.labels(deployed.model).observe(seconds)
        self._instruments.batch_texts.observe(texts)

    def _parts(self, **seconds: float) -> None:
        for part, took in seconds.items():
            self._instruments.part_seconds.labels(part).observe(took)


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
