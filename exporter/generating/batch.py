"""The answers that one engine works at: rows of its graph, filled one after the other, then decoded together.

A row's tokens depend on its own prompt, seed and limits alone: it is filled alone, in chunks that its prompt
alone decides, and the operators add up a row of a batch as they add up a single one (tests prove equal bits).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from exporter.decoder_engine import DecoderEngine
from exporter.generating.sampling import Array
from exporter.generating.turn import Turn
from trainer.decoder.graph import CHUNK, prompt_logprobs


class Batch:
    """First come, first served; never more rows than the graph has."""

    def __init__(self, engine: DecoderEngine) -> None:
        self._graph = engine.graph
        self.waiting: deque[Turn] = deque()
        self._rows: list[Turn] = []
        self._filling: Turn | None = None  # lies in the row after them

    def __len__(self) -> int:
        return len(self.waiting) + len(self.turns())

    def turns(self) -> list[Turn]:
        """Those that have begun."""
        return self._rows if self._filling is None else [*self._rows, self._filling]

    def clear(self) -> None:
        """Forget those that have begun."""
        self._rows, self._filling = [], None
        self._graph.release()

    def advance(self) -> Iterator[tuple[Turn, str]]:
        """About a chunk of prompts, and a token of every row: turns with what they may say now."""
        yield from self._fill()
        yield from self._step()
        if not self.turns() and not self.waiting:
            self._graph.release()

    def drop(self, turn: Turn) -> None:
        """Take a turn that has begun out: the last row moves into its place."""
        if turn is self._filling:
            self._filling = None
            return
        place, last = self._rows.index(turn), len(self._rows) - 1
        if place < last:
            self._graph.move(last, place, self._rows[last].length)
            self._rows[place] = self._rows[last]
        self._rows.pop()
        if self._filling is not None:
            self._graph.move(last + 1, last, self._filling.filled)

    def _fill(self) -> Iterator[tuple[Turn, str]]:
        budget = CHUNK
        while budget > 0 and self._next() is not None:
            turn = self._filling
            assert turn is not None
            part = turn.ids[turn.filled : turn.filled + CHUNK]
            try:
                self._graph.reserve(len(turn.ids) + turn.limit)
                logits = self._graph.fill(len(self._rows), part, turn.filled)
            except Exception as error:  # no other row was touched: those who speak already go on
                self._filling, turn.finish, turn.failure = None, "error", error
                yield turn, ""
                continue
            turn.prompt_logprobs += prompt_logprobs(logits, turn.ids, turn.filled)
            turn.filled += len(part)
            budget -= len(part)
            if turn.filled == len(turn.ids):
                self._filling = None
                self._rows.append(turn)
                yield from self._told([turn], logits[-1:])

    def _next(self) -> Turn | None:
        """Whose prompt is to be read."""
        if self._filling is None and self.waiting and len(self._rows) < self._graph.rows:
            self._filling = self.waiting.popleft()
            self._filling.began = time.monotonic()
        return self._filling

    def _step(self) -> Iterator[tuple[Turn, str]]:
        rows = list(self._rows)
        if rows:
            logits = self._graph.step([turn.tokens[-1] for turn in rows], [turn.length for turn in rows])
            yield from self._told(rows, logits)

    def _told(self, turns: list[Turn], logits: Array) -> list[tuple[Turn, str]]:
        """Give every turn its token; who has finished leaves the batch."""
        numbers = logits.astype(np.float32, copy=False)
        pieces = [(turn, turn.say(row)) for turn, row in zip(turns, numbers, strict=True)]
        for turn in turns:
            if turn.finish is not None:
                self.drop(turn)
        return pieces
