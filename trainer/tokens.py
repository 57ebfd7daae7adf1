"""Texts to token numbers, and batches of texts of like length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
_UNCUT = 2**20


def tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The tokenizer of a tokenizer.json, cutting at `max_tokens` and never padding."""
    found = Tokenizer.from_file(str(path))
    found.enable_truncation(max_tokens)
    found.no_padding()
    return found


def encode(found: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of every text."""
    return [encoding.ids for encoding in found.encode_batch(list(texts))]


def lengths(path: Path, texts: Sequence[str]) -> list[int]:
    """How many tokens of a tokenizer.json every text has, uncut."""
    return [len(ids) for ids in encode(tokenizer(path, _UNCUT), texts)]


def padded(ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """(input_ids, attention_mask), int64 [rows, longest].

    >>> [part.tolist() for part in padded([[5, 6], [7]])]
    [[[5, 6], [7, 0]], [[1, 1], [1, 0]]]
    """
    width = max(len(row) for row in ids)
    tokens = np.zeros((len(ids), width), dtype=np.int64)
    mask = np.zeros_like(tokens)
    for number, row in enumerate(ids):
        tokens[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return tokens, mask


def packed(ids: Sequence[Sequence[int]], *, longest: int | None = None) -> tuple[Array, Array, Array, Array]:
    """(input_ids, position_ids, token_offset, cu_seqlens): every text on one flat axis, without padding.

    int64 [tokens] twice, int32 [texts, longest] and [texts + 1]. `token_offset` lists, in a padded layout,
    first the places of all tokens, then those of the padding; `longest` may be more than any text has.

    >>> [part.tolist() for part in packed([[5, 6], [7]])]
    [[5, 6, 7], [0, 1, 0], [[0, 1], [2, 3]], [0, 2, 3]]
    """
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    real = np.arange(longest or lengths.max()) < lengths[:, None]
    places = np.concatenate([np.flatnonzero(real), np.flatnonzero(~real)]).reshape(real.shape)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    positions = np.nonzero(real)[1].astype(np.int64)
    return tokens, positions, places.astype(np.int32), ends.astype(np.int32)


def by_length(lengths: Sequence[int], rows: int) -> list[Array]:
    """Row numbers in batches of at most `rows`, shortest first: little padding.

    >>> [batch.tolist() for batch in by_length([9, 2, 8, 3], 2)]
    [[1, 3], [2, 0]]
    """
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def shuffled(lengths: Sequence[int], rows: int, rng: np.random.Generator) -> list[Array]:
    """One epoch of batches: shuffled, then sorted by length within 50 batches, batches shuffled again."""
    order = rng.permutation(len(lengths))
    batches: list[Array] = []
    for start in range(0, len(order), 50 * rows):
        part = order[start : start + 50 * rows]
        batches += [part[batch] for batch in by_length([lengths[i] for i in part], rows)]
    return [batches[number] for number in rng.permutation(len(batches))]
