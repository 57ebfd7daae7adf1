"""One label out of several for each text; its canonical form is its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.cells import Cell

Array = np.ndarray[Any, np.dtype[Any]]


def parse(text: Cell, label: Cell) -> tuple[str, str]:
    """The text as it is, the label without spaces around it."""
    return text.string(), label.string().strip()


def spelled(label: str) -> str:
    """As it is: which names can be a class, the exporter says."""
    return label


def names(label: str) -> list[str]:
    """The label itself."""
    return [label]


def targets(labels: Sequence[str], classes: Sequence[str]) -> Array:
    """Class numbers [rows].

    >>> targets(["b", "a"], ["a", "b"]).tolist()
    [1, 0]
    """
    number = {name: place for place, name in enumerate(classes)}
    return np.array([number[label] for label in labels], dtype=np.int64)


def decode(logits: Array, temperature: float) -> Array:
    """Softmax of logits [rows, labels] divided by the version's temperature.

    >>> decode(np.array([[2.0, 0.0]]), 2.0).round(3).tolist()
    [[0.731, 0.269]]
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    weights = np.exp(scaled)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def thresholds(_scores: Array, _targets: Array) -> list[float]:
    """None: the best class answers."""
    return []


def answers(scores: Array, classes: Sequence[str], _thresholds: Sequence[float]) -> list[tuple[str, float]]:
    """The class of the highest score.

    >>> answers(np.array([[0.2, 0.8]]), ["a", "b"], [])
    [('b', 0.8)]
    """
    best = scores.argmax(axis=1)
    return [(classes[place], float(row[place])) for place, row in zip(best.tolist(), scores, strict=True)]


def vocabulary(classes: Sequence[str], _answered: Sequence[str]) -> list[str]:
    """The classes."""
    return list(classes)


def told(_label: str, _parts: Sequence[float]) -> dict[str, Any]:
    """Nothing more."""
    return {}


def probability(label: str, scores: Sequence[float], classes: Sequence[str]) -> float:
    """The label's own score.

    >>> probability("b", [0.2, 0.8], ["a", "b"]), probability("c", [0.2, 0.8], ["a", "b"])
    (0.8, 0.0)
    """
    return scores[classes.index(label)] if label in classes else 0.0
