"""Make the score of an answer mean how often it is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from trainer.tasks.classification import decode

Array = np.ndarray[Any, np.dtype[Any]]
Decode = Callable[[Array, float], Array]

GRID = np.exp(np.linspace(np.log(0.05), np.log(20.0), 241))


def temperature(logits: Array, truth: Array, decode: Decode = decode) -> float:
    """The temperature of least negative log-likelihood; logits [rows, labels], truth a task's targets.

    With fewer than 20 rows there is nothing to fit and it is 1. Source: Guo et al. (2017), section 4.2.

    >>> sure = np.tile([[8.0, 0.0]], (40, 1))
    >>> temperature(sure, np.arange(40) % 4 == 0) > 4  # right in three of four, says 99.97 %
    True
    """
    if len(truth) < 20:
        return 1.0
    return float(min(GRID, key=lambda t: nll(decode(logits, float(t)), truth)))


def cross_fitted(logits: Array, truth: Array, *, seed: int, decode: Decode = decode) -> Array:
    """Probabilities [rows, labels], each half of the rows scaled by the temperature of the other half.

    What they say of calibration is what the temperature of all rows promises for texts that come later.
    """
    first = np.random.default_rng(seed).permutation(len(truth)) % 2 == 0
    scores = np.empty(logits.shape, dtype=np.float64)
    for half in (first, ~first):
        scores[half] = decode(logits[half], temperature(logits[~half], truth[~half], decode))
    return scores


def nll(scores: Array, truth: Array) -> float:
    """Mean negative log-likelihood of probabilities [rows, labels]; of sets, that of the whole set."""
    if truth.ndim == 2:
        return float(-np.log(np.maximum(np.where(truth > 0, scores, 1 - scores), 1e-12)).sum(axis=1).mean())
    picked = scores[np.arange(len(truth)), truth.astype(int)]
    return float(-np.log(np.maximum(picked, 1e-12)).mean())


def ece(scores: Array, truth: Array, bins: int = 10) -> float:
    """Expected calibration error: mean gap between score and accuracy over bins of equal width, in [0, 1].

    >>> ece(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
    0.0
    """
    top = scores.max(axis=1)
    right = scores.argmax(axis=1) == truth
    place = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [abs(top[place == b].sum() - right[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(top))
