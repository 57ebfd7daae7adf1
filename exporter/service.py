"""Texts in, recorded predictions out: who may wait, for how long, and whether this exporter is fit to answer.

A request is answered by the version that served when it arrived, so a swap fails nobody; the old version goes
with its last request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from exporter.answering import Answering
from exporter.backlog import Backlog
from exporter.deployed import Deployed, Fleet
from exporter.errors import (
    ClientDeadlineError,
    DeadlineError,
    ExporterError,
    RequestError,
    StoppingError,
    UnknownModelError,
)
from exporter.generating.service import Generating, generates
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.outcomes import FAILURES, Outcomes
from exporter.parked import Parked
from exporter.prediction import Prediction
from exporter.recording import Input
from exporter.settings import ExporterSettings
from exporter.tracing import Tracing
from exporter.waiting import Lanes, Request, Terms

_NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class Served:
    model: str
    version: str
    labels: Sequence[str]
    predictions: list[Prediction]  # in the order of the inputs
    task: str = "classification"


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
        tracing: Tracing | None = None,
    ) -> None:
        self.fleet = fleet
        self._ledger, self._settings, self._tracing = ledger, settings, tracing
        self._outcomes = outcomes or Outcomes(now)
        backlog = Backlog()
        self._lanes = Lanes(settings.queue_limit, backlog.asked_for)
        self._parked = Parked(fleet)
        self._answering = Answering(
            fleet, ledger, settings, instruments, self._lanes, backlog, now=now, tracing=tracing
        )
        self.generating = Generating(
            fleet, ledger, settings, instruments, parked=self._parked, outcomes=self._outcomes, now=now
        )
        instruments.queue.set_function(lambda: self._lanes.waiting() + len(self.generating))
        self._draining = self._stopping = False

    def start(self) -> None:
        self._answering.start()
        self.generating.start()

    def drain(self) -> None:
        """Be not ready from now on, so that load balancers turn away; still answer."""
        self._draining = True

    def stop(self) -> None:
        """Answer what is queued, then end."""
        self._stopping = True
        self._answering.stop()
        self.generating.stop()
        self._parked.close()

    def problems(self) -> list[str]:
        """Why this exporter should get no traffic; empty when it is ready. May block: it tries the disk."""
        found = [f"the engine of {model!r} fails on every text" for model in self._answering.lost()]
        if not self.fleet.serving():
            found.append("no model is deployed")
        if self._draining or self._stopping:
            found.append("stopping")
        if self._settings.on_full == "refuse" and not self._ledger.writable():
            found.append("the ledger cannot be written")
        return found

    async def predict(
        self, model: str, inputs: Sequence[Input], terms: Terms = _NO_TERMS, *, version: str | None = None
    ) -> Served:
        """Answered and recorded predictions; by `version` and no other, where one is given.

        Raises UnknownModelError, QueueFullError, DeadlineError, StoppingError, LedgerWriteError,
        EngineFailedError, ClientDeadlineError, RequestError for a model that gives no labels.
        """
        if self._stopping:
            raise StoppingError
        deployed = self.fleet.route(model, None if version else self._key(inputs[0]))
        if generates(deployed):
            told = f"{model!r} generates text: ask /v1/chat/completions or /v1/completions."
            raise RequestError(told, "model", code="wrong_task")
        request = self._request(deployed, inputs, terms)
        try:
            with self._watched(request, terms):
                if not deployed.loaded:
                    await self._loaded(request)
                _refuse_another(request, version)
                if not request.over:
                    self._lanes.add(request)
                    self._answering.wake()
                await request.future
        except BaseException as error:
            self._close(request, error)
            raise
        self._close(request, None)
        ordered = [request.done[position] for position in range(len(inputs))]
        answered = request.deployed  # the champion, where a canary failed
        return Served(model, answered.version, answered.engine.labels, ordered, answered.manifest.task)

    async def _loaded(self, request: Request) -> None:
        """Let the request have its version loaded, or end meanwhile."""
        with self._lanes.holding(request):
            loading = self._parked.load(request.deployed.model)
            await asyncio.wait((loading, request.future), return_when=asyncio.FIRST_COMPLETED)
        if not request.over:
            request.deployed = loading.result()

    def _key(self, first: Input) -> str:
        """What a canary draws by: the client's own key where it sends one, otherwise the text."""
        return str(first.metadata.get(self._settings.sticky_key) or first.text)

    def _request(self, deployed: Deployed, inputs: Sequence[Input], terms: Terms) -> Request:
        loop = asyncio.get_running_loop()
        request = Request(deployed, inputs, loop, loop.create_future())
        request.id = terms.request_id
        if self._tracing is not None:
            request.span = self._tracing.begin(deployed.model, len(inputs), request.id, terms.traceparent)
        return request

    @contextmanager
    def _watched(self, request: Request, terms: Terms) -> Iterator[None]:
        """Meanwhile let the request end at its deadline."""
        longest = self._settings.deadline_s
        error: ExporterError = DeadlineError(longest)
        seconds = longest
        if terms.timeout_s is not None and terms.timeout_s < longest:
            seconds, error = terms.timeout_s, ClientDeadlineError(terms.timeout_s)
        late = request.loop.call_later(seconds, request.reject, error)
        try:
            yield
        finally:
            late.cancel()

    def _close(self, request: Request, error: BaseException | None) -> None:
        deployed = request.deployed
        if error is None:
            self._outcomes.add(deployed.model, deployed.version, "answered")
        elif isinstance(error, FAILURES):
            self._outcomes.add(deployed.model, deployed.version, "failed")
        if self._tracing is not None and request.span is not None:
            self._tracing.end(request.span, deployed.version, error)


def _refuse_another(request: Request, version: str | None) -> None:
    """Raise UnknownModelError where another version than the pinned one would answer."""
    if version not in (None, request.deployed.version):
        raise UnknownModelError(f"{request.deployed.model} {version}")
