"""Confidence: the probability of the answered class. It falls when texts lie between classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitor.ranks import Bet
from monitor.severity import Severity, rank_severity
from monitor.windows import Floats, Window


@dataclass(frozen=True, slots=True)
class Confidence:
    name: str = "confidence"
    bet: Bet = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True

    def values(self, window: Window) -> Floats:
        """Calibrated probability of the answered class, in [0, 1]: [n]."""
        return window.score

    def severity(self, reference: Floats, current: Floats, *, seed: int) -> Severity:  # noqa: ARG002
        return rank_severity(reference, current)


detector = Confidence()
