"""Class mix: the shares of the answered classes. A change need not cost accuracy, so it never retrains by
itself.

Classes stand in the manifest's order: an order taken from the reference (by frequency, say) would let the
reference's own chance choose the bins, and the urn would no longer be exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, mixed


@dataclass(frozen=True, slots=True)
class ClassMix:
    name: str = "class_mix"
    series: str = "label"
    bet: Bet | None = "any"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.05

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return mixed(reference, current, seed=seed)


detector = ClassMix()
