"""Canary: promote, roll back, or go on? A sequential test that may be looked at after every row, for ever.

A bettor stakes on each difference between canary and champion; under the hypothesis he bets against, his
wealth is expected to shrink, so it ever reaches 1/alpha with a chance of at most alpha (Ville 1939;
Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", section 3). Rows of
both arms are compared within short blocks of the same time, so that traffic may change under both.

What it needs: requests are routed at random, labels are read in the order in which they arrived, and who gets
a label does not depend on the arm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from monitor.errors import GainRangeError

Arm = Literal["champion", "canary"]
Action = Literal["promote", "roll back", "go on"]
Floats = npt.NDArray[np.float64]

# Shares of the largest stake that cannot ruin; wealth is their mean, so none has to be known as the best.
_STAKES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])


@dataclass(frozen=True, slots=True)
class Row:
    """One request: `value` is 1 where the answer was right (or: where it failed or came late), else 0."""

    arm: Arm
    value: float  # in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryDecision:
    action: Action
    reason: str
    log_e_good: float  # highest so far, natural logarithm: against "it loses the margin or more"
    log_e_harm: float  # against "it is no less right"
    log_e_fault: float  # against "it fails no more often"
    blocks: int  # compared, of labelled rows


def differences(rows: Iterable[Row]) -> list[float]:
    """Canary's mean less the champion's, in blocks that close when both arms have a row; in [-1, 1].

    Where a block ends depends on the arms alone, never on the values: each difference is fair.

    >>> differences([Row("champion", 1), Row("champion", 0), Row("canary", 1), Row("canary", 1)])
    [0.5]
    """
    found: list[float] = []
    block: dict[Arm, list[float]] = {"champion": [], "canary": []}
    for row in rows:
        block[row.arm].append(row.value)
        if block["champion"] and block["canary"]:
            found.append(_mean(block["canary"]) - _mean(block["champion"]))
            block = {"champion": [], "canary": []}
    return found


def log_wealth(gains: Sequence[float], *, mean: float) -> Floats:
    """[n]: log e-value after each gain, in [-1, 1], against "each is expected to be at most `mean`".

    `mean` lies in (-1, 1). Raises GainRangeError.

    >>> float(log_wealth([1.0] * 20, mean=0.0)[-1]) > math.log(1000)
    True
    """
    values = np.asarray(gains, dtype=np.float64)
    if not np.all(np.abs(values) <= 1):  # false for NaN too
        raise GainRangeError(values)
    stakes = _STAKES[:, None] / (1 + mean)
    paths = np.cumsum(np.log1p(stakes * (values - mean)), axis=1)
    return np.asarray(np.logaddexp.reduce(paths, axis=0) - math.log(len(_STAKES)))


def judge_canary(
    gains: Sequence[float], faults: Sequence[float], *, margin: float, alpha: float = 0.05
) -> CanaryDecision:
    """Judge by all differences so far, in order. gains: rightness of labelled rows; faults: of all requests,
    failed or slower than a limit fixed before. In [-1, 1]: `differences`, or of shadow answers per request.

    Whenever and however often it is asked: a canary that is less right by `margin` or more is promoted with a
    chance of at most alpha; one that is no less right and fails no more often is rolled back with a chance of
    at most alpha (half for each). One that loses less than the margin may end either way. Raises
    GainRangeError.
    """
    good = _highest(log_wealth(gains, mean=-margin))
    harm = _highest(log_wealth([-gain for gain in gains], mean=0.0))
    fault = _highest(log_wealth(faults, mean=0.0))
    action, reason = _decide(good, harm, fault, margin=margin, alpha=alpha)
    return CanaryDecision(
        action=action,
        reason=reason,
        log_e_good=good,
        log_e_harm=harm,
        log_e_fault=fault,
        blocks=len(gains),
    )


def _decide(good: float, harm: float, fault: float, *, margin: float, alpha: float) -> tuple[Action, str]:
    if harm >= math.log(2 / alpha):
        return "roll back", f"The canary is less often right than the champion, e = {_said(harm)}."
    if fault >= math.log(2 / alpha):
        return "roll back", f"The canary fails or is late more often than the champion, e = {_said(fault)}."
    if good >= math.log(1 / alpha):
        return "promote", f"The canary loses less than {100 * margin:g} points, e = {_said(good)}."
    return "go on", f"Neither proven: good e = {_said(good)}, harm {_said(harm)}, faults {_said(fault)}."


def _said(log_e: float) -> str:
    return f"{math.exp(min(log_e, 700)):.3g}"


def _highest(path: Floats) -> float:
    """What was proven once stays proven: the promise holds for the highest wealth ever."""
    return float(max(0.0, path.max(initial=0.0)))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
