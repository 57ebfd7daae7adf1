"""Similarity of a text to its nearest training text. It falls when texts come that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitor.ranks import Bet
from monitor.severity import Severity, rank_severity
from monitor.windows import Floats, Window


@dataclass(frozen=True, slots=True)
class Similarity:
    name: str = "similarity"
    bet: Bet = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True

    def values(self, window: Window) -> Floats:
        """Cosine to the nearest training text, in [-1, 1]: [n]."""
        return window.similarity

    def severity(self, reference: Floats, current: Floats, *, seed: int) -> Severity:  # noqa: ARG002
        return rank_severity(reference, current)


detector = Similarity()
