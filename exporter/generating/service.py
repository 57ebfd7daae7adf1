"""Prompts in, events out: which version answers, whether the prompt fits, how long a client waits."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable

from exporter.decoder_engine import DecoderEngine
from exporter.deployed import Deployed, Fleet
from exporter.errors import ClientDeadlineError, DeadlineError, ExporterError, RequestError, StoppingError
from exporter.generating.asked import Asked
from exporter.generating.guidance import Guide
from exporter.generating.owner import Owner
from exporter.generating.turn import Done, Event, Listener, Turn
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.outcomes import FAILURES, Outcomes
from exporter.parked import Parked
from exporter.recording import prediction_id
from exporter.settings import ExporterSettings
from exporter.waiting import Terms
from trainer.decoder import TASK

Prepare = Callable[[DecoderEngine], Asked]


class Generating:
    """Text generation of every deployed language model."""

    def __init__(
        self,
        fleet: Fleet,
        ledger: Ledger,
        settings: ExporterSettings,
        instruments: Instruments,
        *,
        parked: Parked,
        outcomes: Outcomes,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fleet, self._settings, self._now = fleet, settings, now
        self._parked, self._outcomes = parked, outcomes
        self._owner = Owner(ledger, settings, instruments, now=now)
        self._stopping = False

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._owner)

    def start(self) -> None:
        self._owner.start()

    def stop(self) -> None:
        """Answer what waits, then end."""
        self._stopping = True
        self._owner.stop()

    def generates(self, model: str) -> bool:
        """Whether it is a language model. Raises UnknownModelError."""
        return generates(self._fleet.deployed(model))

    async def ask(self, model: str, prepare: Prepare, key: str | None, terms: Terms) -> Speech:
        """Begin an answer; `prepare` makes the prompt with the engine that will answer it.

        A canary draws by `key`. Raises RequestError, UnknownModelError, QueueFullError, StoppingError,
        EngineFailedError.
        """
        if self._stopping:
            raise StoppingError
        deployed = self._fleet.route(model, key)
        if not generates(deployed):
            raise RequestError(
                f"{model!r} is a classifier: it generates no text.", "model", code="wrong_task"
            )
        if not deployed.loaded:
            deployed = await self._parked.load(model)
        engine = deployed.engine
        assert isinstance(engine, DecoderEngine)
        asked, ids, guide = await asyncio.to_thread(_prepared, engine, prepare)
        turn = Turn(
            id=prediction_id(self._now()),
            deployed=deployed,
            engine=engine,
            asked=asked,
            ids=ids,
            limit=_limit(asked, len(ids), engine.context),
            seed=secrets.randbits(31) if asked.seed is None else asked.seed,
            listener=Listener(asyncio.get_running_loop()),
            guide=guide,
            request=terms.request_id,
        )
        self._owner.submit(turn)
        return Speech(turn, self._outcomes, _Waits(self._settings.deadline_s, terms.timeout_s, turn.arrived))


class Speech:
    """An answer as it comes. Whoever stops listening calls `leave`, or the answer goes on."""

    def __init__(self, turn: Turn, outcomes: Outcomes, waits: _Waits) -> None:
        self._turn, self._outcomes, self._waits = turn, outcomes, waits
        self._over = self._begun = False
        self.id, self.version = turn.id, turn.deployed.version

    async def next(self) -> str | Done:
        """A piece of text, or the end. Raises what a failed answer is told, and deadlines."""
        try:
            async with asyncio.timeout_at(self._waits.until(begun=self._begun)):
                event: Event = await self._turn.listener.next()
        except TimeoutError:
            event = self._waits.error()
        if isinstance(event, ExporterError):
            self._end(event)
            raise event
        if isinstance(event, Done):
            self._end(None)
        self._begun = True
        return event

    async def events(self) -> AsyncIterator[str | Done]:
        """All of them; a listener that goes ends the answer."""
        try:
            while not self._over:
                yield await self.next()
        finally:
            self.leave()

    def leave(self) -> None:
        """Let the answer end if it has not."""
        if not self._over:
            self._over = self._turn.left = True

    def _end(self, error: ExporterError | None) -> None:
        deployed = self._turn.deployed
        if error is None:
            self._over = True
            self._outcomes.add(deployed.model, deployed.version, "answered")
            return
        self.leave()
        if isinstance(error, FAILURES):
            self._outcomes.add(deployed.model, deployed.version, "failed")


class _Waits:
    """How long a client waits: `longest` for the first token, and as long as it says itself for the last."""

    def __init__(self, longest: float, own: float | None, arrived: float) -> None:
        self._longest, self._own, self._arrived = longest, own, arrived

    def until(self, *, begun: bool) -> float | None:
        """On the running loop's clock, which is `time.monotonic`'s."""
        limits = [limit for limit in (None if begun else self._longest, self._own) if limit is not None]
        return self._arrived + min(limits) if limits else None

    def error(self) -> ExporterError:
        if self._own is not None and time.monotonic() - self._arrived >= self._own:
            return ClientDeadlineError(self._own)
        return DeadlineError(self._longest)


def generates(deployed: Deployed) -> bool:
    """Whether a version is a language model."""
    return deployed.manifest.task == TASK


def _prepared(engine: DecoderEngine, prepare: Prepare) -> tuple[Asked, list[int], Guide | None]:
    asked = prepare(engine)
    ids = engine.tokens(asked.prompt, special=asked.special)
    if not ids:
        raise RequestError(f"`{asked.param}` has no token: there is nothing to continue.", asked.param)
    return asked, ids, None if asked.schema is None else engine.guides.guide(asked.schema)


def _limit(asked: Asked, prompt: int, context: int) -> int:
    """Tokens that the answer may have. Raises RequestError where they do not fit."""
    left = context - prompt
    wanted = asked.max_tokens if asked.max_tokens is not None else max(left, 1)
    if wanted > left:
        raise RequestError(
            f"The model's context has {context} tokens: the prompt takes {prompt}, the answer may take "
            f"{wanted}, together {prompt + wanted}. Shorten `{asked.param}` or ask for fewer tokens.",
            asked.param,
            code="context_length_exceeded",
        )
    return wanted
