"""Accuracy: right and wrong answers, as their labels arrive. Changed labels are visible here only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitor.ranks import Bet
from monitor.severity import Severity, rate_severity
from monitor.windows import Floats, Window


@dataclass(frozen=True, slots=True)
class Accuracy:
    name: str = "accuracy"
    bet: Bet = "down"
    reads: Literal["predictions", "labels"] = "labels"
    means_loss: bool = True

    def values(self, window: Window) -> Floats:
        """1 for a right answer, 0 for a wrong one, NaN where the truth is not known: [n]."""
        return window.correct

    def severity(self, reference: Floats, current: Floats, *, seed: int) -> Severity:  # noqa: ARG002
        return rate_severity(reference, current)


detector = Accuracy()
