"""How large and how surprising one window is by itself: effect sizes and two-sample p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.windows import Floats

RESAMPLES = 1999


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    effect: float
    p_value: float
    detail: dict[str, Any]  # names of the effect and of the test, and the figures behind them


def rank_severity(reference: Floats, current: Floats) -> Severity:
    """Ask whether current values are lower: Cliff's delta in [-1, 1] and a one-sided Mann-Whitney test.

    The Kolmogorov-Smirnov p-value beside it (two-sided) sees changes of shape that leave the ranks in the
    middle.
    """
    from scipy.stats import ks_2samp, mannwhitneyu  # noqa: PLC0415 - half a second to import

    test = mannwhitneyu(current, reference, alternative="less", method="asymptotic")
    constant = np.ptp(np.concatenate([reference, current])) == 0
    return Severity(
        effect=float(2 * test.statistic / (reference.size * current.size) - 1),
        p_value=1.0 if constant else float(test.pvalue),
        detail={
            "effect": "cliffs_delta",
            "test": "mann_whitney_less",
            "ks_p_value": float(ks_2samp(reference, current, method="asymp").pvalue),
            "reference_median": float(np.median(reference)),
            "current_median": float(np.median(current)),
        },
    )


def mix_severity(reference: Floats, current: Floats, *, seed: int) -> Severity:
    """Compare two samples of class numbers: total variation distance and a permutation test of chi-square.

    The permutations are drawn as tables with fixed margins, so that rare and unseen classes are judged
    exactly.
    """
    classes = np.unique(np.concatenate([reference, current]))
    here = np.array([(current == one).sum() for one in classes])
    there = np.array([(reference == one).sum() for one in classes])
    margins = here + there
    expected = margins * current.size / margins.sum()
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(margins, current.size, size=RESAMPLES)
    # With both margins fixed, chi-square of the 2 x C table grows with this sum.
    seen = ((here - expected) ** 2 / expected).sum()
    as_large = (((drawn - expected) ** 2 / expected).sum(axis=1) >= seen * (1 - 1e-12)).sum()
    return Severity(
        effect=float(np.abs(here / current.size - there / reference.size).sum() / 2),
        p_value=float((1 + as_large) / (1 + RESAMPLES)),
        detail={
            "effect": "total_variation",
            "test": "chi_square_permutation",
            "classes": len(classes),
            "unseen_classes": int(((there == 0) & (here > 0)).sum()),
        },
    )


def rate_severity(reference: Floats, current: Floats) -> Severity:
    """Ask whether current answers are right less often: difference of accuracies and Fisher's exact test."""
    from scipy.stats import hypergeom  # noqa: PLC0415 - half a second to import

    right, right_before = int(current.sum()), int(reference.sum())
    rows = reference.size + current.size
    return Severity(
        effect=float(current.mean() - reference.mean()),
        p_value=float(hypergeom.cdf(right, rows, right + right_before, current.size)),
        detail={
            "effect": "accuracy_difference",
            "test": "fisher_exact_less",
            "accuracy": float(current.mean()),
            "reference_accuracy": float(reference.mean()),
        },
    )
