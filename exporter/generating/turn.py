"""One answer on its way: what is asked, what has been said, and who listens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exporter.decoder_engine import DecoderEngine
from exporter.deployed import Deployed
from exporter.errors import ExporterError
from exporter.generating.asked import Asked
from exporter.generating.guidance import Guide
from exporter.generating.sampling import pick
from exporter.generating.spoken import Spoken
from exporter.generation import FinishReason, Generation
from exporter.prediction import Prediction
from trainer.decoder.graph import logprobs

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer; its prediction is in the ledger."""

    prediction: Prediction
    generation: Generation
    text: str  # the whole answer, whatever is kept of it


Event = str | Done | ExporterError  # a piece of text; the end; why there is none


class Listener:
    """Events of one turn, on the loop that waits for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._events: deque[Event] = deque()
        self._some = asyncio.Event()

    def put(self, event: Event) -> None:
        """On the loop only."""
        self._events.append(event)
        self._some.set()

    async def next(self) -> Event:
        """Pieces that came meanwhile are one."""
        await self._some.wait()
        event = self._events.popleft()
        while isinstance(event, str) and self._events and isinstance(self._events[0], str):
            event += str(self._events.popleft())
        if not self._events:
            self._some.clear()
        return event


@dataclass(slots=True, eq=False)
class Turn:
    """`seed` is the client's own, or drawn for it. Only the owner's thread changes what has been said."""

    id: str  # of the prediction
    deployed: Deployed
    engine: DecoderEngine
    asked: Asked
    ids: Sequence[int]  # of the prompt
    limit: int  # tokens of the answer
    seed: int
    listener: Listener
    guide: Guide | None
    request: str | None = None  # its x-request-id
    arrived: float = field(default_factory=time.monotonic)
    began: float = 0.0
    first: float = 0.0
    last: float = 0.0
    filled: int = 0  # tokens of the prompt that the graph has read
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # of the tokens
    prompt_logprobs: list[float] = field(default_factory=list)  # of some of the prompt's
    said: list[str] = field(default_factory=list)
    finish: FinishReason | None = None
    failure: Exception | None = None  # what made the end an "error"
    left: bool = False  # nobody listens any more; set from the loop
    _rng: np.random.Generator = field(init=False)
    _spoken: Spoken = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._spoken = Spoken(self.engine.tokenizer, self.asked.stops)

    @property
    def length(self) -> int:
        """Tokens of the prompt and the answer."""
        return len(self.ids) + len(self.tokens)

    @property
    def text(self) -> str:
        return "".join(self.said)

    def say(self, logits: Array) -> str:
        """Take the next token, given logits [vocabulary]; what may be said of it now.

        What fails here ends this turn alone: those beside it go on.
        """
        try:
            token = self.choose(logits)
            return self.take(token, logprobs(logits[None], [token])[0])
        except Exception as error:  # the libraries of schemas and of tokens have no base class
            self.finish, self.failure = "error", error
            return ""

    def choose(self, logits: Array) -> int:
        """The next token, given logits [vocabulary]; one draw a token, so that a seed repeats an answer."""
        if not np.isfinite(logits.max()):
            raise FloatingPointError("the model's logits are no numbers")
        if self.guide is not None:
            logits = self.guide.allowed(logits)
        asked = self.asked
        return pick(logits, temperature=asked.temperature, top_p=asked.top_p, draw=float(self._rng.random()))

    def take(self, token: int, logprob: float) -> str:
        """Append a token; what may be said of it now, and `finish` if it was the last."""
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.tokens.append(token)
        self.logprobs.append(logprob)
        piece = self._piece(token)
        self.said.append(piece)
        return piece

    def _piece(self, token: int) -> str:
        if token in self.engine.graph.ends:
            self.finish = "stop"
            return self._spoken.rest()
        piece = self._spoken.hear(token)
        whole = self.guide is not None and self.guide.follow(token)
        if self._spoken.stopped or whole:
            self.finish = "stop"
        elif len(self.tokens) >= self.limit:
            self.finish = "length"
        return piece if self.finish is None else piece + self._spoken.rest()
