"""Texts that are tokens already and wait for a session. Sessions' threads take micro-batches from it.

Because a thread finds its next micro-batch here the moment it is done with one, no session waits for answers
to be recorded, and what arrives meanwhile is batched with what is there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from exporter.deployed import Deployed
from exporter.engines import Answer, Encoded
from exporter.packing import oldest_and_mates
from exporter.prediction import Prediction
from exporter.recording import Input
from exporter.waiting import Request, Waiting

BULK_TURN = 8  # micro-batches of small requests after which bulk, if it waits, has one


class Rank(IntEnum):
    """Who goes first."""

    SMALL = 0  # a text of a small request
    BULK = 1  # of a large one
    SHADOW = 2  # nobody waits for it


@dataclass(frozen=True, slots=True)
class Shade:
    """A text that the champion has answered, to be answered again by who is on trial."""

    deployed: Deployed
    given: Input
    answered: Prediction
    queued_at: float  # monotonic


Asked = Waiting | Shade  # a text, and who wants it answered


@dataclass(slots=True, eq=False)
class Piece:
    """One text on its way through an engine; times are monotonic seconds."""

    deployed: Deployed
    encoded: Encoded
    asked: Asked
    tokenising: tuple[float, float]
    started: float = 0.0
    finished: float = 0.0
    answer: Answer | None = None

    @property
    def queued_at(self) -> float:
        return self.asked.queued_at if isinstance(self.asked, Shade) else self.asked[0].queued_at

    @property
    def over(self) -> bool:
        """Nobody waits for it any more, or another version answers in its place."""
        if isinstance(self.asked, Shade):
            return False
        request = self.asked[0]
        return request.over or request.deployed is not self.deployed


def given_of(asked: Asked) -> Input:
    return asked.given if isinstance(asked, Shade) else asked[0].inputs[asked[1]]


def deployed_of(asked: Asked) -> Deployed:
    return asked.deployed if isinstance(asked, Shade) else asked[0].deployed


def requests_of(asked: Iterable[Asked]) -> list[Request]:
    """Every one once."""
    return list(dict.fromkeys(one[0] for one in asked if not isinstance(one, Shade)))


def encoded(deployed: Deployed, asked: Sequence[Asked]) -> list[Piece]:
    """Texts as tokens; each takes an even share of the time."""
    began = time.monotonic()
    found = deployed.engine.encode([given_of(one).text for one in asked])
    share = (time.monotonic() - began) / len(found)
    return [
        Piece(deployed, tokens, one, (began + number * share, began + (number + 1) * share))
        for number, (one, tokens) in enumerate(zip(asked, found, strict=True))
    ]


class Backlog:
    """Ordered by rank, then by arrival. One thread adds, many take."""

    def __init__(self) -> None:
        self._waiting: dict[Rank, list[Piece]] = {rank: [] for rank in Rank}
        self._again: deque[list[Piece]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._taken = 0  # micro-batches that nobody has called done
        self._since_bulk = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + sum(map(len, self._again))

    def waiting(self, rank: Rank) -> int:
        """Texts of this rank."""
        return len(self._waiting[rank])

    def asked_for(self) -> int:
        """Texts that somebody waits for."""
        with self._changed:
            waiting = [*self._waiting[Rank.SMALL], *self._waiting[Rank.BULK]]
        return sum(not piece.over for piece in waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        with self._changed:
            return not len(self) and not self._taken

    def add(self, rank: Rank, pieces: Iterable[Piece]) -> None:
        with self._changed:
            self._waiting[rank] += pieces
            self._changed.notify_all()

    def again(self, batches: Iterable[list[Piece]]) -> None:
        """Run these, as they are, before anything else."""
        with self._changed:
            self._again += batches
            self._changed.notify_all()

    def take(self) -> list[Piece]:
        """The next micro-batch, all of one engine; waits for it. Empty: closed, there will be none."""
        with self._changed:
            while True:
                batch = self._next()
                if batch:
                    self._taken += 1
                    return batch
                if self._closed:
                    return []
                self._changed.wait()

    def done(self) -> None:
        """A micro-batch that was taken has been dealt with."""
        with self._changed:
            self._taken -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> list[Piece]:
        while self._again:
            alive = [piece for piece in self._again.popleft() if not piece.over]
            if alive:
                return alive
        for waiting in self._waiting.values():
            waiting[:] = [piece for piece in waiting if not piece.over]
        for rank in self._turns():
            if self._waiting[rank]:
                self._since_bulk = 0 if rank is Rank.BULK else self._since_bulk + 1
                return _taken(self._waiting[rank])
        return []

    def _turns(self) -> Sequence[Rank]:
        if self._since_bulk >= BULK_TURN:
            return (Rank.BULK, Rank.SMALL, Rank.SHADOW)
        return tuple(Rank)


def _taken(waiting: list[Piece]) -> list[Piece]:
    """Remove and return the oldest and those that go well with it."""
    deployed = waiting[0].deployed
    same = [place for place, piece in enumerate(waiting) if piece.deployed is deployed]
    lengths = [waiting[place].encoded.length for place in same]
    chosen = {same[number] for number in oldest_and_mates(lengths, deployed.engine.packing)}
    batch = [waiting[place] for place in sorted(chosen)]
    waiting[:] = [piece for place, piece in enumerate(waiting) if place not in chosen]
    return batch
