"""Near-duplicates: texts that all but repeat another one.

Exact, not sketched: the Jaccard similarity of the texts' sets of shingles, as in Lee et al. (2022),
"Deduplicating training data makes language models better", found by a prefix-filtered join (Bayardo, Ma,
Srikant 2007; Xiao, Wang, Lin, Yu 2008). Time grows with the texts' lengths, not with the number of pairs.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_WORD = re.compile(r"\w+")

Shingles: TypeAlias = frozenset[str]


@dataclass(frozen=True, slots=True)
class Likeness:
    """When two texts are near-duplicates: they share more than `limit` of their `shingles`."""

    shingles: Callable[[str], Shingles]
    limit: float  # in [0, 1)


def word_shingles(text: str, words: int = 5) -> Shingles:
    """Every run of `words` words, without case and punctuation; a shorter text is one run, an empty one none.

    >>> sorted(word_shingles("One two three, four FIVE six"))
    ['one two three four five', 'two three four five six']
    """
    return _runs(_WORD.findall(text.lower()), words, " ")


def letter_shingles(text: str, letters: int = 5) -> Shingles:
    """Every run of `letters` characters of the text without case and punctuation.

    >>> sorted(letter_shingles("My PIN?"))
    ['my pi', 'y pin']
    """
    return _runs(list(plain(text)), letters, "")


def plain(text: str) -> str:
    """The words of a text in lower case with single spaces: what spelling habits leave.

    >>> plain("  Where's my CARD?! ")
    'where s my card'
    """
    return " ".join(_WORD.findall(text.lower()))


LONG = Likeness(word_shingles, 0.5)  # shared passages: mail, articles
SHORT = Likeness(letter_shingles, 0.7)  # rephrasings of one line: questions, commands
_ONE_LINE = 200  # characters


def fitting(texts: Sequence[str]) -> Likeness:
    """SHORT where most texts are one line, otherwise LONG: letters of long texts would be millions."""
    short = sum(len(text) <= _ONE_LINE for text in texts)
    return SHORT if 2 * short >= len(texts) else LONG


def near_duplicates(
    held_out: Sequence[str], trained: Iterable[str], likeness: Likeness = LONG
) -> dict[int, int]:
    """Positions in `trained` of texts that repeat one of `held_out` -> the position there.

    >>> near_duplicates(["What is my balance?", "Flip a coin for me, now"], ["flip a coin for me now!"])
    {0: 1}
    """
    index = _filled([likeness.shingles(text) for text in held_out], likeness.limit)
    others = ((place, index.ranked(likeness.shingles(text))) for place, text in enumerate(trained))
    found = ((place, next(index.near(other), None)) for place, other in others)
    return {place: position for place, position in found if position is not None}


def repeated(held_out: Sequence[str], trained: Iterable[str], likeness: Likeness = LONG) -> set[int]:
    """Positions in `held_out` of texts that a text of `trained` repeats.

    >>> repeated(["What is my balance?", "Flip a coin for me, now"], ["flip a coin for me now!"])
    {1}
    """
    index = _filled([likeness.shingles(text) for text in held_out], likeness.limit)
    found: set[int] = set()
    for text in trained:
        found.update(index.near(index.ranked(likeness.shingles(text)), without=found))
    return found


def repeats(texts: Sequence[str], likeness: Likeness) -> dict[int, int]:
    """Positions of texts that repeat an earlier, kept one -> its position; what is left repeats nothing.

    >>> repeats(["where is my card", "what is a card", "Where is my card??"], SHORT)
    {2: 0}
    """
    sets = [likeness.shingles(text) for text in texts]
    index = _Index(sets, likeness.limit)
    found: dict[int, int] = {}
    for position, one in enumerate(map(index.ranked, sets)):
        first = next(index.near(one), None)
        if first is None:
            index.add(position, one)
        else:
            found[position] = first
    return found


def jaccard(one: Shingles, other: Shingles) -> float:
    """Shared shingles over all, in [0, 1]; 0 where either has none.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A set by the ranks of its members, rarest first; unknown ones, which no other set has, come before."""

    ranks: list[int]
    members: frozenset[int]
    size: int  # with those that are unknown


class _Index:
    """Sets by their rarest members: two sets above the limit share one of the rarest of each."""

    def __init__(self, sets: Iterable[Shingles], limit: float) -> None:
        frequency = Counter(shingle for one in sets for shingle in one)
        by_rarity = sorted(frequency, key=lambda shingle: (frequency[shingle], shingle))
        self._rank = {shingle: rank for rank, shingle in enumerate(by_rarity)}
        self._limit = limit
        self._rare: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # of a rank
        self._sets: dict[int, _Ranked] = {}

    def ranked(self, one: Shingles) -> _Ranked:
        ranks = sorted([self._rank[shingle] for shingle in one if shingle in self._rank])
        return _Ranked(ranks, frozenset(ranks), len(one))

    def add(self, position: int, one: _Ranked) -> None:
        self._sets[position] = one
        for place, rank in self._rarest(one):
            self._rare[rank].append((position, one.size - place, one.size))

    def near(self, other: _Ranked, *, without: set[int] | frozenset[int] = frozenset()) -> Iterator[int]:
        """Positions of the sets above the limit, each once, except those of `without`."""
        seen, limit = set(without), self._limit
        for place, rank in self._rarest(other):
            behind = other.size - place
            for position, behind_there, size in self._rare.get(rank, ()):
                if position in seen:
                    continue
                seen.add(position)
                # All members before the first shared one differ (Xiao et al. 2008).
                most = 1 + min(behind, behind_there)
                if most > limit * (other.size + size - most) and self._likeness(position, other) > limit:
                    yield position

    def _likeness(self, position: int, other: _Ranked) -> float:
        """As `jaccard`."""
        one = self._sets[position]
        shared = len(one.members & other.members)
        return shared / (one.size + other.size - shared) if shared else 0.0

    def _rarest(self, one: _Ranked) -> Iterator[tuple[int, int]]:
        """(place among all members from 1, rank) of the members that a set above the limit may share."""
        kept, unknown = one.size - math.ceil(self._limit * one.size) + 1, one.size - len(one.ranks)
        return enumerate(one.ranks[: max(0, kept - unknown)], unknown + 1)


def _filled(sets: Sequence[Shingles], limit: float) -> _Index:
    index = _Index(sets, limit)
    for position, one in enumerate(sets):
        index.add(position, index.ranked(one))
    return index


def _runs(parts: Sequence[str], length: int, glue: str) -> Shingles:
    starts = range(max(1, len(parts) - length + 1)) if parts else ()
    return frozenset(glue.join(parts[start : start + length]) for start in starts)
