"""Text after text: the truth is the answer that should have been given; there are no classes.

What a classifier decides by logits a decoder decides token by token: see trainer.decoder, trainer.generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.cells import Cell
from trainer.tasks import most_frequent

Array = np.ndarray[Any, np.dtype[Any]]


def parse(text: Cell, label: Cell) -> tuple[str, str]:
    """The prompt and the answer as they are."""
    return text.string(), label.string()


def spelled(label: str) -> str:
    """As it is."""
    return label


def names(_label: str) -> list[str]:
    """None: an answer is no class."""
    return []


def targets(labels: Sequence[str], _classes: Sequence[str]) -> Array:
    """Nothing for each answer: float32 [rows, 0]."""
    return np.zeros((len(labels), 0), dtype=np.float32)


def decode(logits: Array, _temperature: float) -> Array:
    """Nothing is known of classes that there are not: one half each."""
    return np.full(logits.shape, 0.5)


def thresholds(_scores: Array, _targets: Array) -> list[float]:
    """None."""
    return []


def answers(scores: Array, _classes: Sequence[str], _thresholds: Sequence[float]) -> list[tuple[str, float]]:
    """Silence, which is never right."""
    return [("", 0.0)] * len(scores)


def vocabulary(_classes: Sequence[str], answered: Sequence[str]) -> list[str]:
    """What is recorded most often: finish reasons."""
    return most_frequent(answered)


def told(_label: str, _parts: Sequence[float]) -> dict[str, Any]:
    """Nothing more."""
    return {}


def probability(_label: str, _scores: Sequence[float], _classes: Sequence[str]) -> float:
    """Not known of an answer as a whole."""
    return 0.0
