"""Length of an answer in tokens, as far as the hold-out's were looked at: cut short, or without an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class AnswerLength:
    name: str = "answer_length"
    series: str = "answer_tokens"
    bet: Bet | None = "both"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = False
    weight: float = 0.01

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "two-sided")


detector = AnswerLength()
