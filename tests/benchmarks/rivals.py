"""Alarm rules that others use, on the same clean streams: how often they ever fire within a hundred windows.

`evidently`  its defaults for a reference of at most 1,000 rows: Kolmogorov-Smirnov (numbers) and one-sample
             chi-square (classes), p < 0.05 for a column; any column, or at least half of them.
`bonferroni` Kolmogorov-Smirnov and two-sample chi-square, p < 0.05 / columns.
`bootstrap`  the largest KS statistic, against the 99th percentile of windows redrawn from the reference.
"""

from __future__ import annotations

import math

import numpy as np

from monitor.ranks import Floats, Ints

NUMBERS, CLASSES = 5, 6
REDRAWN = 200


def ever_fires(*, reference: int, window: int, windows: int, streams: int, seed: int = 0) -> dict[str, float]:
    """Share of clean streams in which each rule fires at least once, and per window."""
    rng = np.random.default_rng(seed)
    fired: dict[str, list[Floats]] = {}
    for _ in range(streams):
        for name, found in _stream(rng, reference, window, windows).items():
            fired.setdefault(name, []).append(found)
    return {
        f"{name}{kind}": round(float(share), 4)
        for name, found in fired.items()
        for kind, share in (
            ("", np.mean([one.any() for one in found])),
            ("_per_window", np.mean([one.mean() for one in found])),
        )
    }


def _stream(rng: np.random.Generator, n: int, w: int, windows: int) -> dict[str, Floats]:
    numbers = np.sort(rng.random((NUMBERS, n)), axis=1)
    classes = rng.integers(CLASSES, size=n)
    rows, labels = rng.random((NUMBERS, windows, w)), rng.integers(CLASSES, size=(windows, w))
    distance = np.stack([_ks(numbers[c], rows[c]) for c in range(NUMBERS)])  # [columns, windows]
    p = _kolmogorov(distance, n, w)
    held = np.bincount(classes, minlength=CLASSES)
    here = np.stack([(labels == k).sum(axis=1) for k in range(CLASSES)], axis=1)
    one_sample, two_sample = _chi_square(held, here)
    small = np.concatenate([p, one_sample[None]]) < 0.05
    columns = NUMBERS + 1
    careful = np.concatenate([p, two_sample[None]]) < 0.05 / columns
    redrawn = np.stack([_ks(one, rng.choice(one, (REDRAWN, w))) for one in numbers]).max(axis=0)
    return {
        "evidently_any_column": small.any(axis=0),
        "evidently_half_the_columns": small.mean(axis=0) >= 0.5,
        "ks_bonferroni": careful.any(axis=0),
        "bootstrap": distance.max(axis=0) > np.quantile(redrawn, 0.99),
    }


def _ks(reference: Floats, rows: Floats) -> Floats:
    """Largest gap between distribution functions: [windows] for rows [windows, w] and a sorted reference."""
    inside = np.sort(rows, axis=1)
    w = rows.shape[1]
    low = np.searchsorted(reference, inside, side="left") / reference.size
    high = np.searchsorted(reference, inside, side="right") / reference.size
    steps = np.arange(w + 1) / w
    gaps: Floats = np.maximum(steps[1:] - low, high - steps[:-1]).max(axis=1)
    return gaps


def _kolmogorov(distance: Floats, n: int, w: int) -> Floats:
    from scipy.special import kolmogorov

    p: Floats = kolmogorov(math.sqrt(n * w / (n + w)) * distance)
    return p


def _chi_square(held: Ints, here: Ints) -> tuple[Floats, Floats]:
    from scipy.stats import chi2

    w, n = here.sum(axis=1, keepdims=True), held.sum()
    expected = held / n * w
    one = ((here - expected) ** 2 / expected).sum(axis=1)
    both = (held + here) / (n + w)
    two = ((here - both * w) ** 2 / (both * w)).sum(axis=1)
    two += ((held - both * n) ** 2 / (both * n)).sum(axis=1)
    return chi2.sf(one, CLASSES - 1), chi2.sf(two, CLASSES - 1)
