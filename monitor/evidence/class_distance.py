"""Class distance: how far a text lies from the mean embedding of its answered class (cosine distance).

Source: per-class distances as in DriftLens (Greco et al., arXiv 2406.17813), one number a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class ClassDistance:
    name: str = "class_distance"
    series: str = "class_distance"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.02

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = ClassDistance()
