"""Accuracy: right and wrong answers, as their labels arrive. Changed labels are visible here only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, rate_severity


@dataclass(frozen=True, slots=True)
class Accuracy:
    name: str = "accuracy"
    series: str = "correct"
    bet: Bet | None = "down"
    reads: Literal["predictions", "labels"] = "labels"
    means_loss: bool = True
    weight: float = 0.13

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return rate_severity(reference, current)


detector = Accuracy()
