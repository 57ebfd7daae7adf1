"""Does a score still mean how often the answer is right? Champion and challenger on the same recent rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.verdict.finding import Finding
from monitor.verdict.paired import Z
from monitor.verdict.rows import PairedRow, Said

MIN_ROWS = 100  # with fewer, the error of ten bins is mostly noise
MOST_WORSE = 0.05  # a calibration error so much larger, beyond doubt, refuses the challenger
BINS = 10
_LEAST = 1e-4  # of a score inside a logarithm: kept scores have four digits

Floats = npt.NDArray[np.float64]


def judge_calibration(recent: Sequence[PairedRow]) -> Finding:
    """Compare expected calibration errors (ECE, ten bins of equal width) and negative log-likelihoods.

    Refused only when the one-sided 95 % lower bound of the rise in ECE exceeds MOST_WORSE; worse at all is
    said. The bound takes the bins' signs as known (delta method), so it needs no random numbers and can be
    recomputed anywhere.
    """
    if len(recent) < MIN_ROWS:
        reason = f"Calibration: not enough data, {len(recent)} of {MIN_ROWS} labelled rows of recent traffic."
        return Finding(passed=True, reason=reason, numbers={"rows": len(recent)})
    parts = [[row.champion for row in recent], [row.challenger for row in recent]]
    champion, challenger = (gaps(*_columns(part)) for part in parts)
    rise = challenger - champion
    lower = float(rise.mean() - Z * rise.std(ddof=1) / math.sqrt(len(rise)))
    numbers: dict[str, Any] = {
        "rows": len(recent),
        "champion_ece": float(champion.mean()),
        "challenger_ece": float(challenger.mean()),
        "ece_rise_lower_95": lower,
        "champion_nll": _nll(parts[0]),
        "challenger_nll": _nll(parts[1]),
    }
    said = f"error {100 * champion.mean():.1f} → {100 * challenger.mean():.1f} points on {len(recent)} rows"
    passed = lower <= MOST_WORSE
    worse = "clearly worse calibrated" if lower > 0 else "calibration"
    start = worse.capitalize() if passed else f"Calibration lost (limit +{100 * MOST_WORSE:g} points)"
    return Finding(passed=passed, reason=f"{start}: {said}.", numbers=numbers)


def gaps(scores: Floats, right: Floats) -> Floats:
    """[rows] whose mean is the expected calibration error: score less rightness, signed by the bin's sum.

    >>> float(gaps(np.array([0.75] * 4), np.array([1.0, 1, 1, 0])).mean())
    0.0
    >>> round(float(gaps(np.array([0.95] * 4), np.array([1.0, 1, 0, 0])).mean()), 2)
    0.45
    """
    place = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    sums = np.bincount(place, weights=scores - right, minlength=BINS)
    return np.asarray(np.sign(sums)[place] * (scores - right))


def _columns(said: Sequence[Said]) -> tuple[Floats, Floats]:
    return np.array([one.score for one in said]), np.array([float(one.right) for one in said])


def _nll(said: Sequence[Said]) -> float:
    return float(-np.log(np.maximum([one.truth_score for one in said], _LEAST)).mean())
