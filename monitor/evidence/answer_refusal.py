"""Answers that refuse, by how they begin (exporter.answers): more of them than of the hold-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class AnswerRefusal:
    name: str = "answer_refusal"
    series: str = "answer_refusal"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.005

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = AnswerRefusal()
