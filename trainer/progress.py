"""How a training says where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.rungs import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; `eta_s` is the seconds left of this stage, if known."""

    stage: Stage
    done: int = 0
    total: int = 1
    message: str = ""
    eta_s: float | None = None


Report = Callable[[Progress], None]


class Sayer:
    """Turns what a rung says into progress with the seconds left of its stage."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._of: tuple[str, str] = ("", "")
        self._since = 0.0

    def say(self, stage: Stage, done: int, total: int, message: str) -> None:
        if (stage, message) != self._of:
            self._of, self._since = (stage, message), time.monotonic()
        left = (time.monotonic() - self._since) / done * (total - done) if done else None
        self._report(Progress(stage=stage, done=done, total=total, message=message, eta_s=left))
