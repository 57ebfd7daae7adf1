"""From logits to one token: greedy, or drawn from the likeliest `top_p` of the probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
_FIRST_CANDIDATES = 256
_COLDEST = 1e-5  # below it fp32 divides by zero, and what is drawn is the likeliest token anyway


def pick(logits: Array, *, temperature: float, top_p: float, draw: float) -> int:
    """A token, given logits [vocabulary] and `draw` in [0, 1); temperature 0, or next to it, takes the
    likeliest.

    Source of top_p: Holtzman et al. (2020), The Curious Case of Neural Text Degeneration.

    >>> pick(np.array([0.0, 3.0, 1.0]), temperature=0.0, top_p=1.0, draw=0.99)
    1
    >>> even = np.array([0.0, 0.0, -np.inf])
    >>> [pick(even, temperature=1.0, top_p=1.0, draw=draw) for draw in (0.0, 0.49, 0.51, 0.99)]
    [0, 0, 1, 1]
    >>> {pick(np.log([0.5, 0.3, 0.2]), temperature=1.0, top_p=0.6, draw=u / 100) for u in range(100)}
    {0, 1}
    """
    if temperature < _COLDEST or top_p == 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / temperature)
    tokens = _nucleus(weights, top_p) if top_p < 1 else None
    mass = np.cumsum(weights if tokens is None else weights[tokens], dtype=np.float64)
    place = int(np.searchsorted(mass, draw * mass[-1], side="right"))
    return place if tokens is None else int(tokens[place])


def _nucleus(weights: Array, top_p: float) -> Array:
    """The fewest likeliest tokens that have `top_p` of the mass, likeliest first; not all are sorted."""
    wanted = top_p * float(weights.sum(dtype=np.float64))
    count = min(_FIRST_CANDIDATES, len(weights))
    while True:
        likeliest = np.argpartition(weights, -count)[-count:]
        if count == len(weights) or weights[likeliest].sum(dtype=np.float64) >= wanted:
            break
        count = min(8 * count, len(weights))
    order = likeliest[np.lexsort((likeliest, -weights[likeliest]))]
    mass = np.cumsum(weights[order], dtype=np.float64)
    found: Array = order[: int(np.searchsorted(mass, wanted)) + 1]
    return found
