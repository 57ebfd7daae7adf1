"""The engine's thread: takes what waits, runs it, records it, and only then answers.

No timer: while a micro-batch runs, the next texts gather.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import structlog

from exporter.deployed import Deployed, Fleet
from exporter.engines import Answer
from exporter.errors import EngineFailedError, LedgerWriteError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.prediction import Prediction
from exporter.recording import prediction_id, recorded
from exporter.redact import keeping
from exporter.settings import ExporterSettings
from exporter.shadows import Shadows
from exporter.tracing import Tracing
from exporter.waiting import SMALL, Lanes, Waiting, deliver, fail

SHADOW_TAKE = 8  # texts of a shadow that somebody may have to wait for
PROBE = "Is anybody there?"
PROBE_S = 5.0  # between two attempts of an engine that failed on every text
LOG_S = 10.0  # a full disk is told again after so long, not for every micro-batch
NAMED = 8  # request ids of one log line

_log = structlog.get_logger()


class Answering:
    """One thread for all engines: they share the processor, and a session is not asked twice at a time."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        lanes: Lanes,
        *,
        now: Callable[[], float],
        tracing: Tracing | None,
    ) -> None:
        self._fleet, self._ledger, self._settings, self._lanes = fleet, ledger, settings, lanes
        self._instruments, self._now, self._tracing = instruments, now, tracing
        slow = instruments.redaction_timeouts.inc
        self._keep = keeping(settings.store_text, settings.redact, timed_out=slow)
        self._shadows = Shadows(ledger, instruments, keep=self._keep, failed=fleet.take_back)
        self._lost: dict[str, Deployed] = {}
        self._told_at = -LOG_S
        self._arrived = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._arrived.set()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._stopping = True
        self._arrived.set()
        self._thread.join()

    def lost(self) -> list[str]:
        """Models whose champion's engine fails on a text that has nothing wrong with it."""
        return sorted(self._lost)

    def _work(self) -> None:
        while not (self._stopping and not self._lanes):
            try:
                self._round()
            except Exception as error:  # the only such thread must outlive what nobody foresaw
                _log.error("answering_failed", error=_name(error))

    def _round(self) -> None:
        if not self._shadows:
            self._arrived.wait(PROBE_S if self._lost else self._ledger.ages_in())
        self._ledger.renew()
        if not self._stopping:
            self._arrived.clear()
        for deployed in list(self._lost.values()):
            self._probe(deployed)
        if not self._lanes:
            self._shadows.answer(SHADOW_TAKE)
        while self._lanes:
            self._answer_all(self._lanes.take_small())
            self._answer_all(self._lanes.take_bulk())

    def _answer_all(self, taken: Sequence[Waiting]) -> None:
        for _, group in groupby(sorted(taken, key=_engine_of), key=_engine_of):
            self._answer(list(group))

    def _answer(self, batch: Sequence[Waiting]) -> None:
        deployed = batch[0][0].deployed
        bulk = len(batch[0][0].inputs) > SMALL
        try:
            started = time.monotonic()
            texts = [request.inputs[position].text for request, position in batch]
            stream = deployed.engine.stream(texts)
            # A canary's answers leave together, so that the champion can answer in its place.
            for positions, answers in list(stream) if deployed.role == "canary" else stream:
                self._record([batch[position] for position in positions], answers, started)
                if bulk:
                    self._answer_all(self._lanes.take_small())
                started = time.monotonic()
        except Exception as error:  # the thread must outlive a bad text; the requests are told
            ids = sorted({request.id for request, _ in batch if request.id})[:NAMED]
            _log.error(
                "engine_failed",
                model=deployed.model, version=deployed.version, error=_name(error), requests=ids,
            )  # fmt: skip
            self._failed(batch, deployed)
            self._probe(deployed)

    def _failed(self, batch: Sequence[Waiting], deployed: Deployed) -> None:
        """Let the champion answer what a canary could not; a request that it answered in part has failed."""
        if deployed.role == "canary":
            champion = self._fleet.deployed(deployed.model)  # loaded for as long as the trial is on
            self._fleet.take_back(deployed)
            whole = [waiting for waiting in batch if not waiting[0].begun]
            for request, _ in whole:
                request.deployed = champion
            if whole:
                self._answer(whole)
            batch = [waiting for waiting in batch if waiting[0].begun and waiting[0].deployed is deployed]
        if batch:
            fail(batch, EngineFailedError(deployed.model, deployed.version))

    def _probe(self, deployed: Deployed) -> None:
        """Was it the text or is it the engine, as when a GPU has gone? Forget engines that serve no more."""
        current = {one.model: one for one in self._fleet.serving()}.get(deployed.model)
        if current is not deployed:
            if self._lost.get(deployed.model) is deployed:
                del self._lost[deployed.model]
            return
        try:
            deployed.engine.run([PROBE])
        except Exception as error:  # ONNX Runtime has no base class for what it raises
            if deployed.model not in self._lost:
                _log.error("engine_lost", model=deployed.model, error=_name(error))
            self._lost[deployed.model] = deployed
        else:
            self._lost.pop(deployed.model, None)

    def _record(self, batch: Sequence[Waiting], answers: Sequence[Answer], started: float) -> None:
        finished = time.monotonic()
        run_ms = (finished - started) * 1e3
        rows = [
            self._recorded(waiting, answer, started, run_ms)
            for waiting, answer in zip(batch, answers, strict=True)
        ]
        written = time.monotonic()
        if not self._written(rows, batch):
            return
        for request, _ in batch:
            request.begun = True
        deliver(list(zip(batch, rows, strict=True)))
        self._shade(batch, rows)
        self._measure(batch, rows, (started, finished, written, time.monotonic()))

    def _written(self, rows: Sequence[Prediction], batch: Sequence[Waiting]) -> bool:
        """Whether the rows may be answered: they are in the ledger, or the settings let it go without."""
        try:
            self._ledger.append(rows)
        except LedgerWriteError as error:
            self._instruments.ledger_errors.inc()
            if time.monotonic() - self._told_at >= LOG_S:
                self._told_at = time.monotonic()
                _log.error("ledger_not_written", error=str(error), on_full=self._settings.on_full)
            if self._settings.on_full == "refuse":
                fail(batch, error)
                return False
            self._instruments.unrecorded.inc(len(rows))
        return True

    def _recorded(self, waiting: Waiting, answer: Answer, started: float, run_ms: float) -> Prediction:
        request, position = waiting
        now = self._now()
        return recorded(
            request.deployed,
            request.inputs[position],
            answer,
            id_=prediction_id(now),
            at=now,
            queue_ms=(started - request.queued_at) * 1e3,
            run_ms=run_ms,
            keep=self._keep,
        )

    def _shade(self, batch: Sequence[Waiting], rows: Sequence[Prediction]) -> None:
        """Let the challenger answer the same texts once nobody waits."""
        deployed = batch[0][0].deployed
        shadow = self._fleet.shadow(deployed.model) if deployed.role == "champion" else None
        if shadow is not None:
            given = (request.inputs[position] for request, position in batch)
            self._shadows.add(shadow, list(zip(given, rows, strict=True)))

    def _measure(
        self, batch: Sequence[Waiting], rows: Sequence[Prediction], times: tuple[float, float, float, float]
    ) -> None:
        """`times`: begun, run, about to be written, written; monotonic."""
        deployed, told = batch[0][0].deployed, self._instruments
        started, finished, written, done = times
        tokenised = deployed.engine.tokenise_s
        told.predictions.labels(deployed.model, deployed.version).inc(len(rows))
        told.run_seconds.labels(deployed.model).observe(finished - started)
        told.batch_texts.observe(len(rows))
        told.batch_tokens.observe(sum(row.tokens for row in rows))
        waited = started - min(request.queued_at for request, _ in batch)
        parts = (waited, tokenised, finished - started - tokenised, done - written)
        for observe, seconds in zip(told.part_observers, parts, strict=True):
            observe(seconds)
        if self._tracing is not None:
            self._trace(self._tracing, batch, (started, started + tokenised, finished, written, done))

    def _trace(self, tracing: Tracing, batch: Sequence[Waiting], times: Sequence[float]) -> None:
        started, tokenised, finished, written, done = times
        for request in {id(request): request for request, _ in batch}.values():
            if request.span is not None:
                part = partial(tracing.part, request.span)
                part("queue", request.queued_at, started)
                part("tokenise", started, tokenised)
                part("run", tokenised, finished)
                part("ledger", written, done)


def _engine_of(waiting: Waiting) -> int:
    return id(waiting[0].deployed)


def _name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
