"""Texts of another kind than those that are learnt: then hold-out or traffic ask something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.duplicates import plain
from trainer.findings import EXAMPLES, Action, Data, Finding

ACTION: Action = "warn"
FEWEST = 50  # texts on either side
LENGTHS = 0.2  # Kolmogorov-Smirnov distance, above which texts are of another length for practical purposes
CHANCE = 0.001
NEW_WORDS = 0.1  # more of the words than in unseen training text of the same kind


def find(data: Data) -> Finding | None:
    """Whether the hold-out's or the traffic's texts differ in length, or in how many words are unknown."""
    rows = [row.text for row in data.rows]
    others = {"the hold-out": [row.text for row in data.holdout], "recent traffic": list(data.traffic)}
    told = [
        f"{name}: {problem}"
        for name, texts in others.items()
        if min(len(rows), len(texts)) >= FEWEST
        for problem in (_lengths(rows, texts), _words(rows, texts))
        if problem
    ]
    if not told:
        return None
    return Finding(kind="text_shift", message="; ".join(told[:EXAMPLES]), rows=())


def _lengths(rows: Sequence[str], texts: Sequence[str]) -> str | None:
    ours, theirs = [len(text) for text in rows], [len(text) for text in texts]
    distance, p = kolmogorov_smirnov(ours, theirs)
    if distance <= LENGTHS or p > CHANCE:
        return None
    return (
        f"its texts have another length (median {np.median(theirs):.0f} characters against "
        f"{np.median(ours):.0f}, KS distance {distance:.2f})"
    )


def kolmogorov_smirnov(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """(largest distance of the two distribution functions, its asymptotic p-value); Smirnov (1948).

    >>> [round(found, 4) for found in kolmogorov_smirnov(range(100), range(30, 130))]
    [0.3, 0.0002]
    """
    from scipy.special import kolmogorov  # noqa: PLC0415 - scipy.stats takes a second longer to import

    one, other = np.sort(ours), np.sort(theirs)
    every = np.concatenate([one, other])
    shares = [np.searchsorted(side, every, side="right") / len(side) for side in (one, other)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    return distance, float(kolmogorov(distance * np.sqrt(len(one) * len(other) / len(every))))


def _words(rows: Sequence[str], texts: Sequence[str]) -> str | None:
    """Against words that one half of the rows brings to the other: new words are normal."""
    usual = unknown_share(rows[::2], rows[1::2])
    found = unknown_share(rows, texts)
    if found <= usual + NEW_WORDS:
        return None
    return (
        f"{found:.0%} of its words are unknown to the training rows ({usual:.0%} between two halves of these)"
    )


def unknown_share(rows: Sequence[str], texts: Sequence[str]) -> float:
    """Share of the words of `texts` that no row has.

    >>> unknown_share(["where is my card"], ["where is Waldo?"])
    0.3333333333333333
    """
    known = {word for text in rows for word in plain(text).split()}
    words = [word for text in texts for word in plain(text).split()]
    return sum(word not in known for word in words) / len(words) if words else 0.0
