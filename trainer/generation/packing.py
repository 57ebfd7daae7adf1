"""Rows into batches without waste: packed end to end, or side by side with rows of like length.

Rows that share a pack must not see each other. Positions restart at every row, and the attention mask is
block-diagonal: a token attends to itself and to earlier tokens of its own row (Krell et al. 2021, "Efficient
sequence packing without cross-contamination", arXiv:2107.02027).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.generation.template import Tokens
from trainer.tokens import by_length

Array = np.ndarray[Any, np.dtype[Any]]
IGNORED = -100  # torch.nn.functional.cross_entropy's ignore_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Rows of one forward pass, int64 [lines, width] each.

    `segments` counts the rows of a line from 1, 0 is padding; `targets` is the token that each place is to
    predict (its right neighbour's number), or IGNORED.
    """

    rows: tuple[tuple[int, ...], ...]  # row numbers of every line, in their order
    ids: Array
    positions: Array
    segments: Array
    targets: Array

    @property
    def asked(self) -> Array:
        """Columns with a target in any line: only these need logits."""
        return np.flatnonzero((self.targets != IGNORED).any(axis=0))

    @property
    def answers(self) -> int:
        """How many places carry loss."""
        return int((self.targets != IGNORED).sum())

    def mask(self) -> Array:
        """bool [lines, 1, width, width]: which places (columns) a place (row) attends to."""
        same = self.segments[:, :, None] == self.segments[:, None, :]
        width = self.ids.shape[1]
        return np.asarray((same & np.tri(width, dtype=bool))[:, None])


def packed(rows: Sequence[Tokens], width: int, order: Sequence[int] | Array) -> list[list[int]]:
    """Row numbers of every line of at most `width` tokens: first fit in `order`; a longer row has its own.

    >>> rows = [Tokens(ids=(1,) * n, learnt=(True,) * n) for n in (5, 4, 3, 2)]
    >>> packed(rows, 8, [0, 1, 2, 3])
    [[0, 2], [1, 3]]
    """
    lines: list[list[int]] = []
    room: list[int] = []
    for row in order:
        length = len(rows[row].ids)
        place = next((place for place, left in enumerate(room) if left >= length), None)
        if place is None:
            lines.append([])
            room.append(width)
            place = len(lines) - 1
        lines[place].append(int(row))
        room[place] -= length
    return lines


def bucketed(rows: Sequence[Tokens], width: int, order: Sequence[int] | Array) -> list[list[int]]:
    """Row numbers of batches of rows of like length, padding included at most `width` tokens (one row: any).

    >>> rows = [Tokens(ids=(1,) * n, learnt=(True,) * n) for n in (5, 4, 3, 2)]
    >>> bucketed(rows, 8, [0, 1, 2, 3])
    [[3, 2], [1], [0]]
    """
    lengths = [len(rows[row].ids) for row in order]
    batches: list[list[int]] = []
    for one in np.concatenate(by_length(lengths, len(lengths))) if len(lengths) else ():
        row = int(order[one])
        if batches and (len(batches[-1]) + 1) * len(rows[row].ids) <= width:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def pack(rows: Sequence[Tokens], lines: Sequence[Sequence[int]]) -> Pack:
    """Lay rows out; lines shorter than the longest are padded on the left, so that answers end together."""
    width = max(sum(len(rows[row].ids) for row in line) for line in lines)
    shape = (len(lines), width)
    ids, positions, segments = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    targets: Array = np.full(shape, IGNORED, dtype=np.int64)
    for number, line in enumerate(lines):
        at = width - sum(len(rows[row].ids) for row in line)
        for segment, row in enumerate(line, 1):
            tokens, size = rows[row], len(rows[row].ids)
            here = slice(at, at + size)
            ids[number, here], positions[number, here] = tokens.ids, np.arange(size)
            segments[number, here] = segment
            wanted = np.where(tokens.learnt, tokens.ids, IGNORED)[1:]
            targets[number, at : at + size - 1] = wanted
            at += size
    return Pack(
        rows=tuple(tuple(line) for line in lines),
        ids=ids,
        positions=positions,
        segments=segments,
        targets=targets,
    )
