"""The thread that answers: feeds the engines, records what they say, and only then replies.

No timer: while micro-batches run, the next texts gather.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import structlog

from exporter.backlog import Asked, Backlog, Piece, Rank, Shade, deployed_of, encoded, requests_of
from exporter.crew import Crew, Ran
from exporter.deployed import Deployed, Fleet
from exporter.errors import EngineFailedError
from exporter.gpu import IN_FLIGHT, devices
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.redact import keeping
from exporter.replying import Replying
from exporter.settings import ExporterSettings
from exporter.shadows import Shadows
from exporter.tracing import Tracing
from exporter.waiting import SMALL, TAKE, Lanes, Request, Waiting, fail

SHADOW_TAKE = 8  # texts of a shadow that somebody may have to wait for
PROBE = "Is anybody there?"
PROBE_S = 5.0  # between two attempts of an engine that failed on every text
STOPPING_S = 0.05  # between two looks whether everything is answered
NAMED = 8  # request ids of one log line

_log = structlog.get_logger()


class Answering:
    """One thread for all engines, which share the processor; a crew runs their micro-batches."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        lanes: Lanes,
        backlog: Backlog,
        *,
        now: Callable[[], float],
        tracing: Tracing | None,
    ) -> None:
        self._fleet, self._ledger, self._lanes, self._backlog = fleet, ledger, lanes, backlog
        slow = instruments.redaction_timeouts.inc
        keep = keeping(settings.store_text, settings.redact, timed_out=slow)
        self._shadows = Shadows(ledger, instruments, keep=keep, failed=fleet.take_back)
        self._replying = Replying(
            fleet, ledger, self._shadows, instruments, settings.on_full, keep=keep, now=now, tracing=tracing
        )
        self._lost: dict[str, Deployed] = {}
        self._probed_at = 0.0
        self._arrived = threading.Event()
        self._stopping = False
        self._ran: deque[Ran] = deque()
        # A GPU runs one micro-batch at a time; while it does, another thread lays out the next.
        sessions = settings.threads if settings.device == "cpu" else IN_FLIGHT * max(1, devices())
        self._crew = Crew(sessions, self._backlog, self._has_run)
        self._thread = threading.Thread(target=self._work, name="answering", daemon=True)

    def start(self) -> None:
        self._crew.start()
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._arrived.set()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._stopping = True
        self._arrived.set()
        self._thread.join()
        self._crew.stop()

    def lost(self) -> list[str]:
        """Models whose champion's engine fails on a text that has nothing wrong with it."""
        return sorted(self._lost)

    def _has_run(self, ran: Ran) -> None:
        self._ran.append(ran)
        self._arrived.set()

    def _work(self) -> None:
        while not (self._stopping and not self._lanes and self._backlog.idle):
            try:
                self._round()
            except Exception as error:  # the only such thread must outlive what nobody foresaw
                _log.error("answering_failed", error=_name(error))

    def _round(self) -> None:
        self._arrived.wait(self._patience())
        self._arrived.clear()
        self._ledger.renew()
        self._feed()
        while self._ran:
            try:
                self._finish(self._ran.popleft())
            finally:
                self._backlog.done()
            self._feed()
        if time.monotonic() - self._probed_at >= PROBE_S:
            for deployed in list(self._lost.values()):
                self._probe(deployed)

    def _patience(self) -> float | None:
        """Seconds until there is something to do though nothing has arrived."""
        if self._stopping:
            return STOPPING_S
        return PROBE_S if self._lost else self._ledger.ages_in()

    def _feed(self) -> None:
        """Turn texts that wait into tokens, as many as the sessions can choose from."""
        room = TAKE - self._backlog.waiting(Rank.SMALL)
        self._begin(Rank.SMALL, self._lanes.take_small(room))
        room = TAKE - self._backlog.waiting(Rank.BULK)
        self._begin(Rank.BULK, self._lanes.take_bulk(room))
        if self._shadows and not (self._lanes or self._backlog):
            self._begin(Rank.SHADOW, self._shadows.take(SHADOW_TAKE))

    def _begin(self, rank: Rank, asked: Sequence[Waiting] | Sequence[Shade]) -> None:
        ordered: list[Asked] = sorted(asked, key=_engine_of)
        for _, group in groupby(ordered, key=_engine_of):
            same = list(group)
            deployed = deployed_of(same[0])
            try:
                self._backlog.add(rank, encoded(deployed, same))
            except Exception as error:  # a tokenizer's; ONNX Runtime is not asked here
                self._tell(deployed, same, error)
                self._give_up(deployed, same, error)

    def _finish(self, ran: Ran) -> None:
        deployed, first = ran.batch[0].deployed, ran.batch[0].asked
        if ran.error is not None:
            self._failed(deployed, ran.batch, ran.error)
        elif isinstance(first, Shade):
            self._shadows.record(ran.batch)
        else:
            self._replying.measure(ran.batch)
            if self._lost.get(deployed.model) is deployed:
                del self._lost[deployed.model]
            if deployed.role == "canary":
                self._hold(ran.batch)
            else:
                self._replying.reply(ran.batch)

    def _hold(self, batch: Sequence[Piece]) -> None:
        """A canary's answers leave together, so that the champion can give them all in its place."""
        whole: list[Piece] = []
        for piece in batch:
            if not piece.over and not isinstance(piece.asked, Shade):
                request = piece.asked[0]
                request.held.append(piece)
                if len(request.held) == len(request.inputs):
                    whole += request.held
        if whole:
            self._replying.reply(whole)

    def _failed(self, deployed: Deployed, batch: list[Piece], error: Exception) -> None:
        """Find the text that an engine fails on: by halves, since the others have a right to their answers.

        Memory that does not suffice for many texts may suffice for half as many.
        """
        asked = [piece.asked for piece in batch]
        if len(batch) > 1 and deployed.role == "champion" and not isinstance(asked[0], Shade):
            middle = len(batch) // 2
            self._backlog.again([batch[:middle], batch[middle:]])
            return
        self._tell(deployed, asked, error)
        self._give_up(deployed, asked, error)

    def _give_up(self, deployed: Deployed, asked: Sequence[Asked], error: Exception) -> None:
        """Somebody else answers, or these requests have failed."""
        requests = requests_of(asked)
        if not requests:
            self._shadows.failed(deployed, error)
        elif deployed.role == "canary":
            self._pass_on(deployed, requests)
        else:
            fail(requests, EngineFailedError(deployed.model, deployed.version))
        self._probe(deployed)

    def _pass_on(self, canary: Deployed, requests: Iterable[Request]) -> None:
        """Let the champion answer what a canary could not."""
        champion = self._fleet.deployed(canary.model)  # loaded for as long as the trial is on
        self._fleet.take_back(canary)
        for request in requests:
            if request.deployed is canary:
                request.deployed = champion
                request.held.clear()
                rank = Rank.SMALL if len(request.inputs) <= SMALL else Rank.BULK
                self._begin(rank, [(request, position) for position in range(len(request.inputs))])

    def _tell(self, deployed: Deployed, asked: Sequence[Asked], error: Exception) -> None:
        ids = sorted({request.id for request in requests_of(asked) if request.id})[:NAMED]
        _log.error(
            "engine_failed",
            model=deployed.model, version=deployed.version, error=_name(error), requests=ids,
        )  # fmt: skip

    def _probe(self, deployed: Deployed) -> None:
        """Was it the text or is it the engine, as when a GPU has gone? Forget engines that serve no more."""
        current = {one.model: one for one in self._fleet.serving()}.get(deployed.model)
        if current is not deployed:
            if self._lost.get(deployed.model) is deployed:
                del self._lost[deployed.model]
            return
        self._probed_at = time.monotonic()
        try:
            deployed.engine.run([PROBE])
        except Exception as error:  # ONNX Runtime has no base class for what it raises
            if deployed.model not in self._lost:
                _log.error("engine_lost", model=deployed.model, error=_name(error))
            self._lost[deployed.model] = deployed
        else:
            self._lost.pop(deployed.model, None)


def _engine_of(asked: Asked) -> int:
    return id(deployed_of(asked))


def _name(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
