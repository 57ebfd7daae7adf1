"""Class mix: the shares of the answered classes. A change need not cost accuracy, so it never retrains by
itself.

Classes stand in the manifest's order: an order taken from the reference (by frequency, say) would let the
reference's own chance choose the bins, and the urn would no longer be exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitor.ranks import Bet
from monitor.severity import Severity, mix_severity
from monitor.windows import Floats, Window


@dataclass(frozen=True, slots=True)
class ClassMix:
    name: str = "class_mix"
    bet: Bet = "any"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False

    def values(self, window: Window) -> Floats:
        """Number of the answered class, NaN for a class that the manifest lacks: [n]."""
        return np.where(window.label_index >= 0, window.label_index, np.nan)

    def severity(self, reference: Floats, current: Floats, *, seed: int) -> Severity:
        return mix_severity(reference, current, seed=seed)


detector = ClassMix()
