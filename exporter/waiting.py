"""What waits for an engine: requests, their texts in two lanes so that bulk delays nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.deployed import Deployed
from exporter.errors import ExporterError, QueueFullError
from exporter.prediction import Prediction
from exporter.recording import Input

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from exporter.backlog import Piece

SMALL = 8  # texts of a request that goes before bulk
TAKE = 64  # texts that wait as tokens: enough to find some of one length, few enough to answer soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a client may ask for beside the answer."""

    timeout_s: float | None = None  # shorter than [exporter] deadline_s
    request_id: str | None = None
    traceparent: str | None = None  # W3C trace context


@dataclass(slots=True, eq=False)
class Request:
    """Texts of one client; whoever waits is told through `future`, on the loop it belongs to."""

    deployed: Deployed
    inputs: Sequence[Input]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    id: str | None = None  # x-request-id, for the log
    span: Span | None = None
    queued_at: float = field(default_factory=time.monotonic)
    done: dict[int, Prediction] = field(default_factory=dict)
    held: list[Piece] = field(default_factory=list)  # a canary's answers, until it has them all

    @property
    def over(self) -> bool:
        """Nobody waits any more: answered, too late, or the client has gone."""
        return self.future.done()

    def reject(self, error: BaseException) -> None:
        """Tell whoever waits, if anybody does; on the request's own loop only."""
        if not self.future.done():
            self.future.set_exception(error)


Waiting = tuple[Request, int]  # and the position of the text among its inputs


class Lanes:
    """A bounded queue of texts. Those of requests of at most `SMALL` texts go first."""

    def __init__(self, limit: int, further: Callable[[], int] = lambda: 0) -> None:
        self._limit = limit
        self._further = further  # texts that were taken and still wait
        self._small: deque[Waiting] = deque()
        self._bulk: deque[Waiting] = deque()
        self._held = 0  # texts that wait for their version to be loaded
        self._lock = threading.Lock()
        self._swept = False  # since the last take: a full queue must not be searched for every refusal

    def __len__(self) -> int:
        return len(self._small) + len(self._bulk)

    def add(self, request: Request) -> None:
        """Raises QueueFullError where not every text of it has room."""
        texts = len(request.inputs)
        lane = self._small if texts <= SMALL else self._bulk
        with self._lock:
            self._require_room(texts)
            lane.extend((request, position) for position in range(texts))

    @contextmanager
    def holding(self, request: Request) -> Iterator[None]:
        """Meanwhile its texts take room without being answered. Raises QueueFullError."""
        texts = len(request.inputs)
        with self._lock:
            self._require_room(texts)
            self._held += texts
        try:
            yield
        finally:
            with self._lock:
                self._held -= texts

    def waiting(self) -> int:
        """Texts that no session has begun."""
        return len(self) + self._further()

    def _require_room(self, texts: int) -> None:
        room = self._limit - self._held - texts
        if self.waiting() > room and not self._swept:
            self._sweep()
        if self.waiting() > room:
            raise QueueFullError(self._limit)

    def take_small(self, texts: int) -> list[Waiting]:
        """At most so many of small requests to answer next, without those that nobody waits for any more."""
        return self._take(self._small, texts)

    def take_bulk(self, texts: int) -> list[Waiting]:
        """At most so many of large requests, likewise."""
        return self._take(self._bulk, texts)

    def _take(self, lane: deque[Waiting], texts: int) -> list[Waiting]:
        with self._lock:
            taken = [lane.popleft() for _ in range(min(texts, len(lane)))]
            self._swept = False
        return [waiting for waiting in taken if not waiting[0].over]

    def _sweep(self) -> None:
        for lane in (self._small, self._bulk):
            alive = [waiting for waiting in lane if not waiting[0].over]
            lane.clear()
            lane.extend(alive)
        self._swept = True


def deliver(pairs: Sequence[tuple[Waiting, Prediction]]) -> None:
    """Hand answers to the loops that wait for them, one call a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Prediction]]] = {}
    for pair in pairs:
        loops.setdefault(pair[0][0].loop, []).append(pair)
    for loop, own in loops.items():
        _tell(loop, _resolve, own)


def fail(requests: Iterable[Request], error: ExporterError) -> None:
    """Tell each of them once."""
    for request in dict.fromkeys(requests):
        _tell(request.loop, request.reject, error)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # a closed loop: the server did not wait any longer, nobody does
        loop.call_soon_threadsafe(callback, *arguments)


def _resolve(pairs: Sequence[tuple[Waiting, Prediction]]) -> None:
    for (request, position), row in pairs:
        request.done[position] = row
        if len(request.done) == len(request.inputs) and not request.future.done():
            request.future.set_result(None)
