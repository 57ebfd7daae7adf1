"""A version's profile: what its hold-out and training texts look like, learnt once and then fixed.

It turns a row's embedding and words into one number each. It must not be learnt from the rows that these
numbers are ranked among: a reference row would lie nearer to a mean that it helped to make than any new row
can, and the pager's urn would no longer be exact. So half of the hold-out makes the profile (and training
embeddings make the clusters), and the other half is the reference of the series that need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.answered import Answered, Floats
from exporter.descriptors import WORD_BUCKETS

FITTED = ("class_distance", "cluster_distance", "unknown_words", "word_rarity")
_DIGITS = 6  # a row alone and in a batch must give the same number
_STEPS = 12
_PRIOR_ROWS = 4.0  # a class of few rows leans on the mean of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Unit vectors and word counts; an empty array where nothing was known."""

    class_means: Floats  # [C, hidden]
    centroids: Floats  # [k, hidden]
    word_counts: npt.NDArray[np.int64]  # [WORD_BUCKETS]

    def numbers(self, rows: Answered) -> dict[str, Floats]:
        """The FITTED series of these rows: [n] each, NaN where there is nothing to compare."""
        return self._distances(rows) | self._words(rows)

    def _distances(self, rows: Answered) -> dict[str, Floats]:
        label = rows.numbers["label"]
        found = {name: np.full(label.size, np.nan) for name in ("class_distance", "cluster_distance")}
        if rows.embedding is None:
            return found
        if self.centroids.size and self.centroids.shape[1] == rows.embedding.shape[1]:
            found["cluster_distance"] = np.round(1 - (rows.embedding @ self.centroids.T).max(axis=1), _DIGITS)
        known = np.isfinite(label)
        if known.any() and self.class_means.size and self.class_means.shape[1] == rows.embedding.shape[1]:
            means = self.class_means[label[known].astype(int)]
            found["class_distance"][known] = np.round(
                1 - (rows.embedding[known] * means).sum(axis=1), _DIGITS
            )
        return found

    def _words(self, rows: Answered) -> dict[str, Floats]:
        size = rows.numbers["label"].size
        held = np.bincount(rows.word_rows, minlength=size).astype(np.float64)
        if not self.word_counts.any():
            held[:] = 0
        held[held == 0] = np.nan
        counts = self.word_counts[rows.words]
        rarity = np.log((self.word_counts.sum() + WORD_BUCKETS) / (counts + 1.0))
        return {
            "unknown_words": np.bincount(rows.word_rows, weights=counts == 0, minlength=size) / held,
            "word_rarity": np.round(
                np.bincount(rows.word_rows, weights=rarity, minlength=size) / held, _DIGITS
            ),
        }


def fit_profile(rows: Answered, labels: int, nearest: npt.NDArray[Any] | None, *, seed: int = 0) -> Profile:
    """Learn the profile from `rows` and from `nearest`, the training embeddings [N, hidden]."""
    hidden = 0 if rows.embedding is None else rows.embedding.shape[1]
    means = np.empty((0, hidden))
    if rows.embedding is not None and len(rows.embedding):
        whole = _unit(np.nansum(rows.embedding, axis=0, keepdims=True))
        known = np.isfinite(rows.numbers["label"]) & np.isfinite(rows.embedding).all(axis=1)
        means = np.repeat(_PRIOR_ROWS * whole, labels, axis=0)
        np.add.at(means, rows.numbers["label"][known].astype(int), rows.embedding[known])
        means = _unit(means).astype(np.float32).astype(np.float64)  # as it will be kept
    centroids = np.empty((0, hidden)) if nearest is None or not len(nearest) else clusters(nearest, seed=seed)
    counts = np.bincount(rows.words, minlength=WORD_BUCKETS)
    return Profile(class_means=means, centroids=centroids, word_counts=counts)


def clusters(points: npt.NDArray[Any], *, seed: int) -> Floats:
    """Centroids of spherical k-means (Dhillon & Modha 2001) with k = sqrt(N / 2) in [1, 64]: unit [k, d].

    >>> clusters(np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4), seed=1).shape
    (2, 2)
    """
    rows = np.asarray(points, dtype=np.float32)
    k = int(np.clip(np.sqrt(len(rows) / 2), 1, 64))
    rng = np.random.default_rng(seed)
    found = rows[rng.choice(len(rows), k, replace=False)]
    for _ in range(_STEPS):
        nearest = (rows @ found.T).argmax(axis=1)
        moved = np.zeros_like(found)
        np.add.at(moved, nearest, rows)
        empty = ~np.isin(np.arange(k), nearest)
        moved[empty] = found[empty]
        found = _unit(moved).astype(np.float32)
    return found.astype(np.float16).astype(np.float64)


def _unit(rows: npt.NDArray[Any]) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.asarray(rows, dtype=np.float64) / np.where(length > 0, length, 1)
    return unit
