"""Ranks: the place of each current row among the reference rows, counted in bins for the pager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bet = Literal["down", "up", "both", "any"]

# Shares of the reference below each bin's end: fine at both ends, where new texts and wrong answers gather.
EDGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
MIX_BINS = 16


def gaps(reference_rows: int, bet: Bet) -> list[int]:
    """Group the n + 1 gaps of n reference rows in bins, by place only: how many gaps each bin holds.

    >>> gaps(9, "any")
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> sum(gaps(500, "down")), gaps(500, "down")[:4]
    (501, [5, 5, 15, 25])
    """
    total = reference_rows + 1
    shares = [k / MIX_BINS for k in range(1, MIX_BINS + 1)] if bet == "any" else EDGES
    edges = sorted({max(1, round(share * total)) for share in shares})
    return [int(size) for size in np.diff([0, *edges])]


def count(
    reference: Floats, current: Floats, m: Sequence[int], *, reference_seed: int, seed: int
) -> list[int]:
    """Count the current rows in bins of reference gaps, ties broken by uniform numbers.

    `reference_seed` must be the same in every window of one reference, `seed` another one in each window.

    >>> count(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.5, 9.0]), [1, 3], reference_seed=0, seed=1)
    [1, 2]
    """
    order = np.concatenate([reference, current])
    ties = np.concatenate(
        [
            np.random.default_rng(reference_seed).random(reference.size),
            np.random.default_rng(seed).random(current.size),
        ]
    )
    sorted_rows = np.lexsort((ties, order))
    is_reference = sorted_rows < reference.size
    gap = np.cumsum(is_reference)[~is_reference]  # reference rows below each current row
    bins = np.searchsorted(np.cumsum(m), gap, side="right")
    return [int(rows) for rows in np.bincount(bins, minlength=len(m))]
