"""Training rows and hold-out that do not ask for the same: the hold-out then proves something else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from trainer.findings import Action, Data, Finding

Array = np.ndarray[Any, np.dtype[Any]]
ACTION: Action = "warn"
DISTANCE = 0.1  # total variation: below it, classes are mixed alike for any practical purpose
CHANCE = 0.001


def find(data: Data) -> Finding | None:
    """Whether the class shares differ by more than DISTANCE, and by more than chance (chi squared)."""
    said = [row.label for row in data.holdout if row.label is not None]
    held = Counter(name for label in said for name in data.names(label))
    trained = data.counts()
    labels = sorted(held.keys() | trained.keys())
    if sum(held.values()) < 2 or len(labels) < 2:
        return None
    table = np.array([[trained[label] for label in labels], [held[label] for label in labels]])
    shares = table / table.sum(axis=1, keepdims=True)
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if distance <= DISTANCE or same_shares_p(table) > CHANCE:
        return None
    most = labels[int(np.abs(shares[0] - shares[1]).argmax())]
    return Finding(
        kind="class_shift",
        message=(
            f"training rows and hold-out mix the classes differently (total variation {distance:.2f}), "
            f"most of all {most!r}: {trained[most]} of {sum(trained.values())} against "
            f"{held[most]} of {sum(held.values())}"
        ),
        rows=(),
    )


def same_shares_p(table: Array) -> float:
    """Chance that counts [2, classes], of no class none, differ as much (Pearson's chi squared).

    >>> round(same_shares_p(np.array([[10, 20], [20, 10]])), 4)
    0.0098
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - scipy.stats takes a second longer to import

    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()))
