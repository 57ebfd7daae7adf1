"""How large and how surprising one window is by itself: effect sizes and two-sample p-values.

All of them count the sampling error of the window and of the reference, so that they are calibrated for the
size of both. They work on rows counted in cells; ties are cells with several rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitor.ranks import Floats, Ints

RESAMPLES = 1999
Direction = Literal["less", "greater", "two-sided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    effect: float
    p_value: float
    detail: dict[str, Any]  # names of the effect and of the test, and the figures behind them


def rank_severity(reference: Floats, current: Floats) -> Severity:
    """Ask whether current values are lower, as `ranked` does; every distinct value is a cell."""
    values, cell = np.unique(np.concatenate([reference, current]), return_inverse=True)
    there, here = (
        np.bincount(rows, minlength=values.size) for rows in (cell[: reference.size], cell[reference.size :])
    )
    found = ranked(there, here, "less")
    medians = {
        "reference_median": float(np.median(reference)),
        "current_median": float(np.median(current)),
    }
    return Severity(effect=found.effect, p_value=found.p_value, detail=found.detail | medians)


def ranked(reference: Ints, current: Ints, direction: Direction) -> Severity:
    """Cliff's delta in [-1, 1] and the Mann-Whitney test with ties, for rows in ascending cells.

    The Kolmogorov-Smirnov p-value beside it (two-sided) sees changes of shape that leave the ranks in the
    middle. Source: Mann & Whitney 1947; tie correction as in Lehmann, Nonparametrics (1975), section 1.4.
    """
    n, w = int(reference.sum()), int(current.sum())
    below = np.cumsum(reference) - reference
    wins = float((current * (below + reference / 2)).sum())  # pairs in which the current row is higher
    tied = (reference + current).astype(np.float64)
    ties = float((tied**3 - tied).sum()) / ((n + w) * max(1, n + w - 1))
    spread = math.sqrt(max(0.0, n * w / 12 * (n + w + 1 - ties)))
    return Severity(
        effect=2 * wins / (n * w) - 1,
        p_value=_normal_p(wins - n * w / 2, spread, direction),
        detail={
            "effect": "cliffs_delta",
            "test": f"mann_whitney_{direction.replace('-', '_')}",
            "ks_p_value": _kolmogorov(reference, current),
        },
    )


def outside(reference: Ints, current: Ints) -> float:
    """Share of current rows in the cells above all but the highest hundredth of the reference.

    >>> outside(np.array([98, 1, 1]), np.array([5, 2, 3]))
    0.3
    """
    below = np.cumsum(reference) - reference
    return float(current[below >= 0.99 * reference.sum()].sum() / current.sum())


def mix_severity(reference: Floats, current: Floats, *, seed: int) -> Severity:
    """Compare two samples of class numbers, as `mixed` does."""
    classes = np.unique(np.concatenate([reference, current]))
    there, here = (
        np.array([(rows == one).sum() for one in classes], dtype=np.int64) for rows in (reference, current)
    )
    return mixed(there, here, seed=seed)


def mixed(reference: Ints, current: Ints, *, seed: int) -> Severity:
    """Total variation distance and a permutation test of chi-square, for rows in classes.

    The permutations are drawn as tables with fixed margins, so that rare and unseen classes are judged
    exactly.
    """
    seen_at_all = (reference + current) > 0
    there, here = reference[seen_at_all], current[seen_at_all]
    margins, rows = here + there, int(here.sum())
    expected = margins * rows / margins.sum()
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        margins, rows, size=RESAMPLES, method="marginals"
    )
    # With both margins fixed, chi-square of the 2 x C table grows with this sum.
    seen = ((here - expected) ** 2 / expected).sum()
    as_large = (((drawn - expected) ** 2 / expected).sum(axis=1) >= seen * (1 - 1e-12)).sum()
    return Severity(
        effect=float(np.abs(here / rows - there / there.sum()).sum() / 2),
        p_value=float((1 + as_large) / (1 + RESAMPLES)),
        detail={
            "effect": "total_variation",
            "test": "chi_square_permutation",
            "classes": len(margins),
            "unseen_classes": int(((there == 0) & (here > 0)).sum()),
        },
    )


def rate_severity(reference: Ints, current: Ints) -> Severity:
    """Ask whether answers are right less often, from [wrong, right]: difference and Fisher's exact test."""
    from scipy.stats import hypergeom  # noqa: PLC0415 - half a second to import

    right, rows = int(current[1]), int(current.sum())
    before, all_rows = float(reference[1] / reference.sum()), int(reference.sum()) + rows
    return Severity(
        effect=right / rows - before,
        p_value=float(hypergeom.cdf(right, all_rows, right + int(reference[1]), rows)),
        detail={
            "effect": "accuracy_difference",
            "test": "fisher_exact_less",
            "accuracy": right / rows,
            "reference_accuracy": before,
        },
    )


def tolerated_severity(tolerated: Ints, current: Ints) -> Severity:
    """Ask whether requests failed more often than they may, from [failed, answered]: exact binomial test."""
    from scipy.stats import binom  # noqa: PLC0415 - half a second to import

    rate, rows = float(tolerated[0] / tolerated.sum()), int(current.sum())
    return Severity(
        effect=float(current[0] / rows) - rate,
        p_value=float(binom.sf(current[0] - 1, rows, rate)),
        detail={
            "effect": "error_rate_difference",
            "test": "binomial_greater",
            "error_rate": float(current[0] / rows),
            "tolerated_error_rate": rate,
        },
    )


def mean_severity(reference: Ints, current: Ints, worth: Floats) -> Severity:
    """Ask whether the mean of what rows are worth, by cell, fell: difference and the permutation z-test."""
    both = reference + current
    n, w = int(reference.sum()), int(current.sum())
    before, now = float(reference @ worth) / n, float(current @ worth) / w
    mean = float(both @ worth) / (n + w)
    variance = float(both @ (worth - mean) ** 2) / max(1, n + w - 1)
    spread = math.sqrt(variance * (1 / n + 1 / w))
    return Severity(
        effect=now - before,
        p_value=_normal_p(now - before, spread, "less", continuity=0.0),
        detail={
            "effect": "accuracy_difference",
            "test": "permutation_z_less",
            "estimated_accuracy": now,
            "reference_accuracy": before,
        },
    )


def _normal_p(away: float, spread: float, direction: Direction, *, continuity: float = 0.5) -> float:
    if spread == 0:
        return 1.0
    distance = {"less": -away, "greater": away, "two-sided": abs(away)}[direction]
    tail = math.erfc((distance - continuity) / spread / math.sqrt(2)) / 2
    return min(1.0, 2 * tail if direction == "two-sided" else tail)


def _kolmogorov(reference: Ints, current: Ints) -> float:
    from scipy.special import kolmogorov  # noqa: PLC0415 - a quarter of a second to import

    n, w = reference.sum(), current.sum()
    distance = np.abs(np.cumsum(reference) / n - np.cumsum(current) / w).max()
    return float(kolmogorov(math.sqrt(n * w / (n + w)) * distance))
