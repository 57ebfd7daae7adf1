"""Near-duplicates: hold-out texts that a model all but saw in training, and that therefore prove nothing.

Exact, not sketched: the Jaccard similarity of the sets of word 5-grams, as in Lee et al. (2022),
"Deduplicating training data makes language models better", found by a prefix-filtered join (Bayardo, Ma,
Srikant 2007).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

WORDS = 5  # of a shingle; a shorter text is one shingle
LIMIT = 0.5  # texts that share more of their shingles are near-duplicates
_WORD = re.compile(r"\w+")

Shingles = frozenset[str]


def near_duplicates(held_out: Sequence[str], trained: Iterable[str], *, limit: float = LIMIT) -> set[int]:
    """Positions in `held_out` of texts with a similarity to any text of `trained` above `limit`, in [0, 1).

    Time grows with the texts' lengths, not with the number of pairs: a pair above the limit shares one of the
    rarest shingles of each.

    >>> near_duplicates(["Flip a coin for me, now", "What is my balance?"], ["flip a coin for me now!"])
    {0}
    """
    sets = [shingles(text) for text in held_out]
    frequency = Counter(shingle for one in sets for shingle in one)
    rare: dict[str, list[int]] = defaultdict(list)
    for position, one in enumerate(sets):
        for shingle in _rarest(one, frequency, limit):
            rare[shingle].append(position)
    found: set[int] = set()
    for text in trained:
        other = shingles(text)
        near = {
            position for shingle in _rarest(other, frequency, limit) for position in rare.get(shingle, ())
        }
        found |= {position for position in near - found if jaccard(sets[position], other) > limit}
    return found


def shingles(text: str) -> Shingles:
    """Every run of WORDS words, without case and punctuation; empty where the text has no word.

    >>> sorted(shingles("One two three, four FIVE six"))
    ['one two three four five', 'two three four five six']
    """
    words = _WORD.findall(text.lower())
    starts = range(max(1, len(words) - WORDS + 1)) if words else ()
    return frozenset(" ".join(words[start : start + WORDS]) for start in starts)


def jaccard(one: Shingles, other: Shingles) -> float:
    """Shared shingles over all, in [0, 1]; 0 where either has none.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def _rarest(one: Shingles, frequency: Counter[str], limit: float) -> list[str]:
    """So many that any set with a similarity above the limit has one of its own rarest among them."""
    kept = len(one) - math.ceil(limit * len(one)) + 1
    return sorted(one, key=lambda shingle: (frequency[shingle], shingle))[:kept]
