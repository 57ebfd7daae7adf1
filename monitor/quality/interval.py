"""The confidence sequence: an interval for a proportion that may be looked at after every label.

A bettor holds the Beta(`PRIOR`) mixture of all accuracies; the interval is every accuracy against which he
has not won 1/alpha (Ville's inequality). With labels drawn uniformly and without predictions this is exact,
at every number of labels (Robbins 1970; Waudby-Smith and Ramdas 2024, appendix). Predictions, unequal
probabilities and a short window enter as the number of plain labels that would tell as much (`effective`),
which holds for many labels, not for a handful: an asymptotic confidence sequence (Waudby-Smith et al. 2024).
As there, what looking often costs is paid on the clock of the labels, however much each of them tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable

PRIOR = (4.0, 1.0)  # where the interval is narrowest; it covers wherever the accuracy is
_HALVINGS = 60


def interval(
    mean: float, effective: float, alpha: float, *, labels: int | None = None
) -> tuple[float, float]:
    """Every proportion that `effective` labels of this mean do not contradict, (lower, upper) in [0, 1].

    `labels` is how many there are, None where each is a plain one.

    >>> lower, upper = interval(0.9, 100, 0.05)
    >>> round(lower, 3), round(upper, 3)
    (0.787, 0.967)
    >>> lower, upper = interval(0.9, 300, 0.05, labels=100)
    >>> round(lower, 3), round(upper, 3)
    (0.84, 0.944)
    >>> interval(0.9, math.inf, 0.05)
    (0.9, 0.9)
    """
    if math.isinf(effective):
        return mean, mean
    limit = _limit(mean, effective if labels is None else labels, alpha)

    def contradicted(proportion: float) -> bool:
        told = _cost(mean, proportion) + _cost(1 - mean, 1 - proportion)
        return effective * (told - _cost(mean, mean) - _cost(1 - mean, 1 - mean)) >= limit

    return _edge(mean, 0.0, contradicted), _edge(mean, 1.0, contradicted)


def half_width(mean: float, effective: float, alpha: float) -> float:
    """Half of the interval's width.

    >>> half_width(0.7, 400, 0.05) < 0.6 * half_width(0.7, 100, 0.05)
    True
    """
    lower, upper = interval(mean, effective, alpha)
    return (upper - lower) / 2


def _limit(mean: float, labels: float, alpha: float) -> float:
    """Log-likelihood ratio of the best proportion to one that plain labels contradict at 1/alpha."""
    right, wrong = labels * mean, labels * (1 - mean)
    mixture = _log_beta(PRIOR[0] + right, PRIOR[1] + wrong) - _log_beta(*PRIOR)
    return -math.log(alpha) - mixture - _cost(right, mean) - _cost(wrong, 1 - mean)


def _edge(inside: float, outside: float, contradicted: Callable[[float], bool]) -> float:
    if not contradicted(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if contradicted(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _cost(labels: float, proportion: float) -> float:
    if labels <= 0:
        return 0.0
    return math.inf if proportion <= 0 else -labels * math.log(proportion)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
