"""Perplexity of a prompt under the model that answers it: it rises when prompts are new to that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.sketch import Sketch
from monitor.ranks import Bet, Ints
from monitor.severity import Severity, ranked


@dataclass(frozen=True, slots=True)
class PromptPerplexity:
    name: str = "prompt_perplexity"
    series: str = "prompt_perplexity"
    bet: Bet | None = "up"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True
    weight: float = 0.05

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return ranked(reference, current, "greater")


detector = PromptPerplexity()
