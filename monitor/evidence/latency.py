"""Latency of the engine in milliseconds, against the version's own first rows.

Severity only: neighbours in time share the machine's load, so that rows are not exchangeable and no bet on
them would be honest. It never pages for drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class Latency:
    name: str = "latency"
    series: str = "latency"
    bet: Bet | None = None
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.0

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = Latency()
