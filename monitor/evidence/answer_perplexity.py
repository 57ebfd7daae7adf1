"""Perplexity of an answer under its own model, which rises where that does not know what to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class AnswerPerplexity:
    name: str = "answer_perplexity"
    series: str = "answer_perplexity"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True
    weight: float = 0.02

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = AnswerPerplexity()
