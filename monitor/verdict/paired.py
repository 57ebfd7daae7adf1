"""Two models' answers to the same rows, counted: who is right where the other is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.errors import UnpairedRowsError

LEVEL = 0.05
Z = 1.6448536269514722  # one-sided 95 %
Z_POWER = 0.8416212335729143  # 80 % power


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How many rows of a slice each model answered rightly."""

    both: int
    only_champion: int
    only_challenger: int
    neither: int

    @property
    def rows(self) -> int:
        return self.both + self.only_champion + self.only_challenger + self.neither

    @property
    def gain(self) -> float:
        """Challenger's accuracy less the champion's; 0 without rows."""
        return (self.only_challenger - self.only_champion) / max(1, self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    lower: float  # one-sided 95 % bound of the gain
    passed: bool  # lower > -margin
    rows_needed: int  # with fewer, not even equal answers on every row could pass


def pair(champion_right: Sequence[bool], challenger_right: Sequence[bool]) -> Pairs:
    """Count pairs of answers to the same rows, in the same order.

    >>> pair([True, True, False], [True, False, True])
    Pairs(both=1, only_champion=1, only_challenger=1, neither=0)
    """
    if len(champion_right) != len(challenger_right):
        raise UnpairedRowsError(len(champion_right), len(challenger_right))
    cells = np.bincount(
        2 * np.asarray(champion_right, dtype=np.int64) + np.asarray(challenger_right, dtype=np.int64),
        minlength=4,
    )
    neither, only_challenger, only_champion, both = (int(cell) for cell in cells)
    return Pairs(both=both, only_champion=only_champion, only_challenger=only_challenger, neither=neither)


def mcnemar_mid_p(b: int, c: int) -> float:
    """One-sided mid-p that the challenger is better: b rows only the champion has right, c only the
    challenger.

    Source: Fagerland, Lydersen, Laake (2013), one-sided. Without discordant rows there is no evidence:
    1.

    >>> round(mcnemar_mid_p(1, 8), 5), mcnemar_mid_p(0, 0)
    (0.01074, 1.0)
    """
    if b + c == 0:
        return 1.0
    tail = _binomial(b + c)[c:]
    return float(tail.sum() - tail[0] / 2)


def harm_p(b: int, c: int) -> float:
    """One-sided exact p that the challenger is worse, of b rows lost and c won; 1 without a discordant row.

    The sign test: it never finds a harm that is not there more often than it says.

    >>> round(harm_p(5, 0), 5), harm_p(0, 0)
    (0.03125, 1.0)
    """
    return min(1.0, float(_binomial(b + c)[b:].sum()))


def _binomial(n: int) -> npt.NDArray[np.float64]:
    """Probabilities of 0..n heads of a fair coin: [n + 1]."""
    k = np.arange(1, n + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(n - k + 1) - np.log(k))]) - n * math.log(2)
    return np.exp(logs)


def gain_lower_bound(b: int, c: int, n: int) -> float:
    """One-sided 95 % lower bound of the gain (c - b) / n: Tango's (1998) score bound, and never above the
    exact one of a challenger that wins no row (Clopper-Pearson on the net losses), which Tango's misses for
    few discordant rows.

    By enumeration a true loss of the margin passes 1.6 to 5.3 % of the time (n = 99 to 400).

    >>> round(gain_lower_bound(0, 0, 98), 4), round(gain_lower_bound(0, 0, 99), 4)
    (-0.0301, -0.0298)
    """
    if n == 0:
        return -1.0
    return min(_tango(b, c, n), -_exact_upper(max(0, b - c), n))


def _tango(b: int, c: int, n: int) -> float:
    """Find the gain at which the score statistic is Z, by bisection."""
    low, high = -1.0, (c - b) / n
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(b, c, n, middle) >= Z else (low, middle)
    return low


def _score(b: int, c: int, n: int, gain: float) -> float:
    """Tango's statistic for the hypothesis that the gain is `gain`."""
    linear = -b - c + (2 * n - c + b) * gain
    constant = -b * gain * (1 - gain)
    lost = (math.sqrt(linear**2 - 8 * n * constant) - linear) / (4 * n)  # share only the champion has right
    variance = n * (2 * lost + gain * (1 - gain))
    return (c - b - n * gain) / math.sqrt(variance) if variance > 0 else math.inf


def _exact_upper(x: int, n: int) -> float:
    """One-sided 95 % Clopper-Pearson upper bound of a share, x of n seen, by bisection."""
    if x >= n:
        return 1.0
    k = np.arange(1, x + 1)
    ways = np.concatenate([[0.0], np.cumsum(np.log(n - k + 1) - np.log(k))])
    powers = np.arange(x + 1)
    low, high = x / n, 1.0
    for _ in range(50):
        share = (low + high) / 2
        tail = np.exp(ways + powers * math.log(share) + (n - powers) * math.log1p(-share)).sum()
        low, high = (share, high) if tail > LEVEL else (low, share)
    return high


def non_inferiority(pairs: Pairs, margin: float) -> NonInferiority:
    """Test one-sided, at 5 %, that the challenger loses less than `margin` (0.03 = 3 points)."""
    lower = gain_lower_bound(pairs.only_champion, pairs.only_challenger, pairs.rows)
    needed = math.ceil(math.log(LEVEL) / math.log1p(-margin)) if 0 < margin < 1 else 1
    return NonInferiority(lower=lower, passed=lower > -margin, rows_needed=needed)


def unseen_drop(pairs: Pairs) -> float:
    """The drop that this slice would show with 80 % power at 5 %, in accuracy: less cannot be relied on to be
    seen.
    """
    discordant = max(1, pairs.only_champion + pairs.only_challenger) / max(1, pairs.rows)
    return min(1.0, (Z + Z_POWER) * math.sqrt(discordant / max(1, pairs.rows)))


def power_line(pairs: Pairs) -> str:
    """Say what this slice cannot tell.

    >>> power_line(Pairs(both=382, only_champion=6, only_challenger=6, neither=18))
    'with n = 412 a drop under 2.1 points cannot be seen'
    """
    return f"with n = {pairs.rows} a drop under {100 * unseen_drop(pairs):.1f} points cannot be seen"


def numbers(pairs: Pairs, margin: float) -> dict[str, Any]:
    """Figures of one part, JSON-able; None where it has no rows."""
    rows = max(1, pairs.rows)
    return {
        "rows": pairs.rows,
        "champion_accuracy": (pairs.both + pairs.only_champion) / rows if pairs.rows else None,
        "challenger_accuracy": (pairs.both + pairs.only_challenger) / rows if pairs.rows else None,
        "only_champion": pairs.only_champion,
        "only_challenger": pairs.only_challenger,
        "gain": pairs.gain if pairs.rows else None,
        "gain_lower_95": non_inferiority(pairs, margin).lower if pairs.rows else None,
        "unseen_drop": unseen_drop(pairs),
    }
