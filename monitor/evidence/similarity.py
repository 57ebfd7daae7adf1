"""Similarity of a text to its nearest training text. It falls when texts come that training never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class Similarity:
    name: str = "similarity"
    series: str = "similarity"
    bet: Bet | None = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True
    weight: float = 0.35

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "less")


detector = Similarity()
