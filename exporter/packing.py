"""Which texts share a micro-batch: near in length, so that little is padded, and enough to fill a run.

Between them lies what one run costs however little is in it (the weights have to be read once): about 16
tokens' time for MiniLM on a processor, see tests/benchmarks/serving.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Packing:
    """What an engine allows without an answer depending on its batch mates."""

    rows: int  # texts of a micro-batch
    tokens: int  # padded tokens of a micro-batch of several texts
    reach: int  # tokens of padding that one more text may cost; 0: only texts of one length


ALONE = Packing(rows=1, tokens=1, reach=0)
LENGTH_STEP = 8  # where padding shows


def even(tokens: int) -> int:
    """The next even number.

    >>> [even(tokens) for tokens in (1, 2, 3)]
    [2, 2, 4]
    """
    return tokens + tokens % 2


def stepped(tokens: int) -> int:
    """The next of a few lengths.

    >>> [stepped(tokens) for tokens in (1, 8, 9)]
    [8, 8, 16]
    """
    return -(-tokens // LENGTH_STEP) * LENGTH_STEP


def mates(lengths: Sequence[int], chosen: int, packing: Packing) -> range:
    """Positions in the ascending `lengths` of a micro-batch around position `chosen`.

    >>> list(mates([5, 17, 18, 18, 40], 2, Packing(rows=8, tokens=512, reach=4)))
    [1, 2, 3]
    >>> list(mates([5, 17, 18, 18, 40], 2, ALONE))
    [2]
    """
    low = high = chosen  # both included
    while (rows := high - low + 1) < packing.rows:
        # What the next shorter text would be padded by, and what the next longer one would pad the others by.
        below = lengths[high] - lengths[low - 1] if low else inf
        above = rows * (lengths[high + 1] - lengths[high]) if high + 1 < len(lengths) else inf
        if min(below, above) > packing.reach:
            break
        low, high = (low - 1, high) if below <= above else (low, high + 1)
        if (rows + 1) * lengths[high] > packing.tokens:
            return range(low + (below <= above), high + (below <= above))
    return range(low, high + 1)


def micro_batches(lengths: Sequence[int], packing: Packing) -> Iterator[list[int]]:
    """Positions in `lengths`, every one once, in micro-batches with the longest first.

    >>> list(micro_batches([8, 16, 8, 16, 16], Packing(rows=2, tokens=512, reach=0)))
    [[3, 4], [1], [0, 2]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ascending = [lengths[position] for position in order]
    while order:
        first = mates(ascending, len(order) - 1, packing).start
        yield order[first:]
        del order[first:], ascending[first:]


def oldest_and_mates(lengths: Sequence[int], packing: Packing) -> list[int]:
    """Positions of the micro-batch of the first of `lengths`, which stand in any order.

    >>> oldest_and_mates([18, 40, 5, 17], Packing(rows=8, tokens=512, reach=4))
    [3, 0]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    start = bisect_left(order, lengths[0], key=lengths.__getitem__)
    chosen = order.index(0, start)
    return [order[place] for place in mates([lengths[position] for position in order], chosen, packing)]
