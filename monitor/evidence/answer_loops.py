"""Share of an answer that it has said before: a model that talks in circles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class AnswerLoops:
    name: str = "answer_loops"
    series: str = "answer_loops"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.01

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = AnswerLoops()
