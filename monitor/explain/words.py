"""Which words moved: log-odds with an informative Dirichlet prior.

Source: Monroe, Colaresi & Quinn (2008), "Fightin' Words", eqs. 16, 19-22. A word counts once a text, so that
one text that repeats it does not lead; the prior is both samples together, and holds rare words back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from monitor.explain.texts import words_of

MIN_TEXTS = 30  # of each side; fewer are not enough data
MOST = 12
_PRIOR = 500.0  # words that the prior weighs
_SEEN = 5  # texts that must hold a word before it is tested
_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word; z > 0 where current texts hold it more often, shares are of texts in [0, 1]."""

    word: str
    z: float
    current_share: float
    reference_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """At most MOST each, the surest first; `enough` False: one side has fewer than MIN_TEXTS texts."""

    reference_texts: int
    current_texts: int
    enough: bool
    rising: tuple[Word, ...] = ()
    falling: tuple[Word, ...] = ()


def moved_words(reference: Sequence[str], current: Sequence[str]) -> Words:
    """Words whose |z| passes 5 % over all tested words (Bonferroni).

    >>> found = moved_words(["lost my card"] * 40, ["buy a crypto wallet"] * 40)
    >>> [word.word for word in found.rising], [word.word for word in found.falling]
    (['buy', 'crypto', 'wallet'], ['card', 'lost', 'my'])
    >>> moved_words(["lost my card"] * 40, []).enough
    False
    """
    there, here = len(reference), len(current)
    if min(there, here) < MIN_TEXTS:
        return Words(reference_texts=there, current_texts=here, enough=False)
    before, now = (Counter(word for text in side for word in words_of(text)) for side in (reference, current))
    names = sorted(word for word, texts in (before + now).items() if texts >= _SEEN)
    if not names:
        return Words(reference_texts=there, current_texts=here, enough=True)
    z = log_odds_z(*(np.array([side[word] for word in names], dtype=np.float64) for side in (now, before)))
    line = NormalDist().inv_cdf(1 - _LEVEL / 2 / len(names))

    def chosen(sign: int) -> tuple[Word, ...]:
        order = sorted(np.flatnonzero(sign * z >= line).tolist(), key=lambda place: -abs(z[place]))
        return tuple(
            Word(
                word=names[place],
                z=round(float(z[place]), 2),
                current_share=now[names[place]] / here,
                reference_share=before[names[place]] / there,
            )
            for place in order[:MOST]
        )

    return Words(reference_texts=there, current_texts=here, enough=True, rising=chosen(1), falling=chosen(-1))


def log_odds_z(current: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """z-score of each word's log-odds ratio, from counts of the same words [V] on both sides.

    >>> log_odds_z(np.array([10.0, 10.0]), np.array([10.0, 10.0])).tolist()
    [0.0, 0.0]
    """
    prior = _PRIOR * (current + reference) / (current.sum() + reference.sum())
    a, b = current + prior, reference + prior
    odds = [side / np.maximum(side.sum() - side, 0.5) for side in (a, b)]
    z: np.ndarray[Any, Any] = np.log(odds[0] / odds[1]) / np.sqrt(1 / a + 1 / b)
    return z
