"""Which old rows an incremental training sees again, and how much each row weighs.

A head that learns three new domains of CLINC150 from their rows alone forgets the others; a quarter of old
rows, each weighing as many as it stands for, keeps them (`tests/benchmarks/forgetting.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.fitting.table import REPLAY, FitTable
from trainer.rows import Row

Array = np.ndarray[Any, np.dtype[Any]]
DAY_S = 86_400.0


def replay(rows: Sequence[Row], fit: FitTable) -> list[Row]:
    """All rows of traffic, or the newest that `fit` pays for, and as many base rows as it allows; in order.

    The same share of every class and, within it, of every slice; the same rows and seed give the same ones.

    >>> rows = [Row(text=str(n), label="ab"[n % 2], origin="base") for n in range(10)]
    >>> [len(replay(rows, fit)) for fit in (FitTable(replay_rows=4), FitTable(budget_labels=6), FitTable())]
    [4, 6, 10]
    """
    base = [number for number, row in enumerate(rows) if row.origin == "base"]
    traffic = [number for number, row in enumerate(rows) if row.origin == "traffic"]
    newest = sorted(traffic, key=lambda number: (-(rows[number].at or 0.0), -number))[: fit.budget_labels]
    limit = replayed(len(base), len(newest), fit)
    if limit == len(base) and len(newest) == len(traffic):
        return list(rows)
    rng = np.random.default_rng(fit.seed)
    kept = {*newest, *_spread(_within(rows, base, rng))[:limit]}
    return [row for number, row in enumerate(rows) if number in kept]


def replayed(base: int, traffic: int, fit: FitTable) -> int:
    """How many of `base` old rows are learnt again beside rows of traffic.

    >>> [replayed(3000, 900, fit) for fit in (FitTable(anchor=1.0), FitTable(replay=0.5), FitTable())]
    [300, 900, 3000]
    """
    share = REPLAY if fit.replay is None and fit.anchor > 0 else fit.replay
    limit = base if fit.replay_rows is None else min(base, fit.replay_rows)
    limit = limit if fit.budget_labels is None else min(limit, fit.budget_labels - traffic)
    return limit if share is None or not traffic else min(limit, round(traffic * share / (1 - share)))


def weigh(rows: Sequence[Row], fit: FitTable, *, stand_for: float) -> Array:
    """[rows] weights: a replayed base row counts as `stand_for` rows, and a label halves with its half-life.

    Ages are counted from the newest row, so that the same rows always weigh the same; rows without a time are
    as old as the oldest. What has changed its meaning is not left to weights: monitor/stale.py drops it.

    >>> rows = [Row(text="a", label="x", at=0.0), Row(text="b", label="y", at=DAY_S, origin="traffic")]
    >>> weigh(rows, FitTable(half_life_days=1.0), stand_for=3.0).tolist()
    [1.5, 1.0]
    """
    weights = np.array([stand_for if row.origin == "base" else 1.0 for row in rows])
    times = [row.at for row in rows if row.at is not None]
    if fit.half_life_days is None or not times:
        return weights
    at = np.array([min(times) if row.at is None else row.at for row in rows])
    return np.asarray(weights * 0.5 ** ((max(times) - at) / (DAY_S * fit.half_life_days)))


def _within(rows: Sequence[Row], base: Sequence[int], rng: np.random.Generator) -> dict[str, list[int]]:
    """Base rows of each class, its slices mixed in proportion."""
    groups: dict[str, dict[tuple[str, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for number in base:
        groups[rows[number].label][rows[number].fields].append(number)
    return {
        label: _spread({str(key): rng.permutation(part).tolist() for key, part in sorted(parts.items())})
        for label, parts in sorted(groups.items())
    }


def _spread(groups: dict[str, list[int]]) -> list[int]:
    """All numbers so that any beginning holds the same share of every group, each in its own order."""
    place = {
        number: ((rank + 0.5) / len(group), number)
        for group in groups.values()
        for rank, number in enumerate(group)
    }
    return sorted(place, key=place.__getitem__)
