"""A handful of rows that stand for all that moved, chosen by their stored embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.windows import Floats

Embeddings: TypeAlias = npt.NDArray[np.float32]
CANDIDATES = 200  # the least similar rows, among which is chosen


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row's number, and how many candidates it is the nearest chosen row of."""

    row: int
    stands_for: int


def choose_examples(
    similarity: Floats, embeddings: Embeddings | None, *, moved: int, most: int
) -> list[Chosen]:
    """At most `most` of the `moved` least similar rows, diverse: greedy facility location.

    `similarity` is [n] with NaN where unknown, `embeddings` unit rows [n, hidden]; without embeddings the
    least similar rows. Source: Lin & Bilmes (2011), "A Class of Submodular Functions for Document
    Summarization"; greedy is within 1 - 1/e of the best choice (Nemhauser et al. 1978).

    >>> vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    >>> choose_examples(np.array([0.1, 0.1, 0.1, 0.2]), vectors, moved=4, most=2)
    [Chosen(row=0, stands_for=3), Chosen(row=3, stands_for=1)]
    """
    known = np.flatnonzero(np.isfinite(similarity))
    order = known[np.argsort(similarity[known], kind="stable")]
    candidates = order[: min(CANDIDATES, max(moved, most))]
    if embeddings is None or not candidates.size:
        return [Chosen(int(row), 1) for row in candidates[:most]]
    alike = np.clip(embeddings[candidates] @ embeddings[candidates].T, 0, None)
    picked = _greedy(alike, most)
    nearest = alike[:, picked].argmax(axis=1)
    stands_for = np.bincount(nearest, minlength=len(picked))
    return [Chosen(int(candidates[place]), int(rows)) for place, rows in zip(picked, stands_for, strict=True)]


def _greedy(alike: npt.NDArray[Any], most: int) -> list[int]:
    """Each step takes the row that adds most to the sum of every row's best match."""
    covered = np.zeros(len(alike))
    picked: list[int] = []
    while len(picked) < min(most, len(alike)):
        gains = np.maximum(alike - covered[:, None], 0).sum(axis=0)
        best = int(gains.argmax())
        if picked and gains[best] <= 1e-3:  # what is left are copies
            break
        picked.append(best)
        covered = np.maximum(covered, alike[:, best])
    return picked
