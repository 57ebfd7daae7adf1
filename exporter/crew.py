"""The threads that run engines: as many micro-batches at a time as the machine has sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from exporter.backlog import Backlog, Piece


@dataclass(frozen=True, slots=True)
class Ran:
    """A micro-batch that was run: its pieces have their answers, or it failed as a whole."""

    batch: list[Piece]
    error: Exception | None


class Crew:
    """`size` threads; `finished` is called on them."""

    def __init__(self, size: int, backlog: Backlog, finished: Callable[[Ran], None]) -> None:
        self._backlog, self._finished = backlog, finished
        self._threads = [
            threading.Thread(target=self._work, name=f"session-{number}", daemon=True)
            for number in range(size)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End once the backlog is empty."""
        self._backlog.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        while batch := self._backlog.take():
            self._finished(Ran(batch, _answer(batch)))


def _answer(batch: list[Piece]) -> Exception | None:
    """Give every piece its answer; what was raised instead, if anything was."""
    engine, started = batch[0].deployed.engine, time.monotonic()
    try:
        answers = engine.answer([piece.encoded for piece in batch])
        finished = time.monotonic()
        if not all(isfinite(answer.score + sum(answer.scores)) for answer in answers):
            return FloatingPointError(
                "scores that are no numbers"
            )  # nobody could be told, no ledger takes them
        for piece, answer in zip(batch, answers, strict=True):
            piece.answer, piece.started, piece.finished = answer, started, finished
    except Exception as error:  # ONNX Runtime has no base class for what it raises
        return error
    return None
