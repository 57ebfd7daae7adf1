"""Ranks: the place of each current row among the reference rows, counted in bins for the pager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from exporter import sketch
from exporter.answered import Floats
from exporter.sketch import Ints

__all__ = ["Bet", "Floats", "Ints", "count", "gaps", "place"]

Bet = Literal["down", "up", "both", "any", "rate"]  # "rate": of a known share, see monitor/bets.py


def gaps(reference_rows: int, bet: Bet) -> list[int]:
    """Group the n + 1 gaps of n reference rows in bins, by place only: how many gaps each bin holds.

    >>> gaps(9, "any")
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> sum(gaps(500, "down")), gaps(500, "down")[:4]
    (501, [5, 5, 15, 25])
    """
    return sketch.gaps(reference_rows, "even" if bet == "any" else "ends")


def place(reference: Ints, current: Ints, m: Sequence[int], *, reference_seed: int, seed: int) -> Ints:
    """Count rows that are known by their cells only in bins of reference gaps: [len(m)].

    `reference` and `current` are rows in each cell, cells in ascending order of value. Rows of one cell count
    as tied and are ordered by uniform numbers, the reference's drawn with `reference_seed` (the same in every
    window of one reference), the current ones' with `seed` (another in each window). With
    the cells of `exporter.sketch` and no ties this is `count` of the values themselves, with ties its law.

    >>> place(np.array([1, 1, 1]), np.array([1, 0, 2]), [1, 3], reference_seed=0, seed=1).sum()
    np.int64(3)
    """
    ends = np.cumsum(m)[:-1]  # above this many reference rows the next bin begins
    below = np.concatenate([[0], np.cumsum(reference)])
    cell_of = np.searchsorted(below[1:], ends, side="left")
    ties = np.random.default_rng(reference_seed).random(below[-1])
    rng = np.random.default_rng(seed)
    counts = np.zeros(len(m), dtype=np.int64)
    for cell in np.flatnonzero(current):
        inside = ends[cell_of == cell] - below[cell]
        first = int((cell_of < cell).sum())
        at = np.sort(ties[below[cell] : below[cell + 1]])[inside - 1]
        shares = np.diff([0.0, *at, 1.0])
        counts[first : first + shares.size] += rng.multinomial(current[cell], shares)
    return counts


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
