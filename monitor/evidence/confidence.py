"""Confidence: the probability of the answered class. It falls when texts lie between classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class Confidence:
    name: str = "confidence"
    series: str = "confidence"
    bet: Bet | None = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True
    weight: float = 0.10

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "less")


detector = Confidence()
