"""Which rows to label next: a random sample of known probabilities, larger where a label tells more.

Nothing is picked for certain, so that the estimate stays unbiased: every row keeps a uniform part. Rows are
drawn along a line through their embeddings, evenly, so that two near texts are seldom both bought.
For the accuracy the best probability grows with the root of the prediction's variance; a retrain learns most
from answers that are wrong on unfamiliar texts, which tell the accuracy little: the drift part is for those.
Sources: Madow (1949), systematic sampling with unequal probabilities; Zrnic and Candès (2024), active
inference; Stevens and Olsen (2004), samples spread evenly in space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from monitor.windows import Floats, Ints

Strategy = Literal["uniform", "uncertain", "drift"]
MOST_DRIFT = 0.75  # share of the drift part where all is new
STRATEGIES: tuple[Strategy, ...] = ("uniform", "uncertain", "drift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How the budget is split, in parts of one; `uniform` bounds the weight of a label."""

    uniform: float = 0.2
    uncertain: float = 0.6
    drift: float = 0.2


def shares_for(novelty: Floats) -> Shares:
    """The shares for rows of this novelty [N]: where most is new, much goes from `uncertain` to `drift`.

    A retrain gains more there than the accuracy's interval loses: `tests/benchmarks/quality.py` shows both.

    >>> [shares_for(np.full(4, mean)) for mean in (0.8, 4.0)]
    [Shares(uniform=0.2, uncertain=0.6, drift=0.2), Shares(uniform=0.2, uncertain=0.2906, drift=0.5094)]
    """
    least = Shares()
    mean = float(novelty.mean()) if novelty.size else 0.0
    more = (MOST_DRIFT - least.drift) * max(0.0, 1 - 1 / mean) ** 2 if mean > 0 else 0.0
    return Shares(uncertain=round(least.uncertain - more, 4), drift=round(least.drift + more, 4))


def appeal(correct: Floats, novelty: Floats, shares: Shares) -> Floats:
    """Relative chance of each row by strategy, in the order of STRATEGIES: [3, N]; each sums to its share.

    `correct` is P(correct) and `novelty` is at least 0, both [N].
    """
    wrong = 1 - correct
    parts = np.stack([np.ones(len(correct)), np.sqrt(correct * wrong), novelty * wrong])
    totals = parts.sum(axis=1, keepdims=True)
    parts = np.where(totals > 0, parts / np.where(totals > 0, totals, 1), 1 / len(correct))
    return np.asarray(parts * np.array([[shares.uniform], [shares.uncertain], [shares.drift]]))


def novelty(similarity: Floats, reference: Floats) -> Floats:
    """How unlike the reference a row's similarity to the training texts is: 1 on average without drift.

    Minus the logarithm of the share of reference rows that are as unlike: [N]. Unknown is 0.

    >>> novelty(np.array([0.9, 0.1, np.nan]), np.array([0.5, 0.7, 0.8])).round(2).tolist()
    [0.0, 1.39, 0.0]
    """
    known = np.sort(reference[~np.isnan(reference)])
    if not known.size:
        return np.zeros(len(similarity))
    below = np.searchsorted(known, similarity, side="right")
    found = np.log((known.size + 1) / (below + 1))
    return np.where(np.isnan(similarity), 0.0, found)


def probabilities(appealing: Floats, count: int) -> Floats:
    """Inclusion probabilities that sum to `count`, at most 1, in proportion to `appealing`: [N].

    >>> probabilities(np.array([8.0, 1.0, 1.0]), 2).tolist()
    [1.0, 0.5, 0.5]
    """
    if count >= len(appealing):
        return np.ones(len(appealing))
    sure = np.zeros(len(appealing), dtype=bool)
    while True:
        rest = appealing * ~sure
        found = np.where(sure, 1.0, rest * (count - sure.sum()) / rest.sum())
        if not (over := (found > 1) & ~sure).any():
            return np.asarray(np.minimum(found, 1.0))
        sure |= over


def draw(probability: Floats, order: Ints, rng: np.random.Generator) -> Ints:
    """Row numbers of one systematic sample along `order`, of size sum(probability).

    >>> draw(np.array([1.0, 0.0, 1.0]), np.array([2, 1, 0]), np.random.default_rng(0)).tolist()
    [0, 2]
    """
    edges = np.concatenate([[0.0], np.cumsum(probability[order])])
    marks = np.arange(round(edges[-1])) + rng.random()
    places = np.searchsorted(edges, np.minimum(marks, np.nextafter(edges[-1], 0)), side="right") - 1
    return np.sort(order[places])


def spread_order(embedding: Floats, rng: np.random.Generator) -> Ints:
    """An order of rows in which neighbours are near: halves along the widest direction, halved again.

    `embedding` is [N, D]. Halves are turned at random, so that no row has a place of its own.
    """
    order: list[npt.NDArray[np.int64]] = []
    waiting = [np.arange(len(embedding))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= 2:
            order.append(rng.permutation(rows))
            continue
        ranked = rows[np.argsort(_widest(embedding[rows], rng), kind="stable")]
        halves = [ranked[: len(rows) // 2], ranked[len(rows) // 2 :]]
        waiting += halves if rng.random() < 0.5 else halves[::-1]
    return np.concatenate(order) if order else np.zeros(0, dtype=np.int64)


def _widest(points: Floats, rng: np.random.Generator) -> Floats:
    """Position of each point along (nearly) the direction of most variance, by three power iterations."""
    centred = points - points.mean(axis=0)
    along = rng.normal(size=points.shape[1])
    for _ in range(3):
        along = centred.T @ (centred @ along)
        along /= max(float(np.linalg.norm(along)), 1e-12)
    return np.asarray(centred @ along)
