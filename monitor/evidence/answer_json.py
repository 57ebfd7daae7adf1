"""Answers that are JSON, where the hold-out's were: what a program reads has become prose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class AnswerJson:
    name: str = "answer_json"
    series: str = "answer_json"
    bet: Bet | None = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.02

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "less")


detector = AnswerJson()
