"""Share of the learning rate at a step: a warm-up, then a shape.

`wsd` (warm-up, stable, decay; Hu et al. 2024, arXiv 2404.06395) stays up until the last fifth, so that a run
may be prolonged from there. A retrain starts its schedule anew: it warms up again (Ibrahim et al. 2024,
arXiv 2403.08763).
"""

from __future__ import annotations

import math
from collections.abc import Callable

DECAY = 0.2


def _constant(_: float) -> float:
    return 1.0


def _linear(done: float) -> float:
    return 1.0 - done


def _cosine(done: float) -> float:
    return (1.0 + math.cos(math.pi * done)) / 2


def _wsd(done: float) -> float:
    return min(1.0, (1.0 - done) / DECAY)


SHAPES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
}


def share(name: str, step: int, steps: int, *, warm_up: float) -> float:
    """Share of the peak rate at `step`, counted from 0, of `steps`.

    >>> [share("linear", step, 20, warm_up=0.1) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    >>> [round(share("wsd", step, 100, warm_up=0), 2) for step in (0, 79, 90, 100)]
    [1.0, 1.0, 0.5, 0.0]
    """
    warm = max(1.0, warm_up * steps)
    done = min(1.0, max(0.0, (step - warm) / max(1.0, steps - warm)))
    if warm_up == 0:
        done = step / max(1, steps)
    return min((step + 1) / warm, SHAPES[name](done))
