"""Language by function words, offline and in microseconds; a text without one counts as "none"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, mixed


@dataclass(frozen=True, slots=True)
class Language:
    name: str = "language"
    series: str = "language"
    bet: Bet | None = "any"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.02

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return mixed(reference, current, seed=seed)


detector = Language()
