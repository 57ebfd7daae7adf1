"""From entities to the tags of a text's tokens, and from scores of tags back to entities.

Tags are BIO (Ramshaw and Marcus 1995, arXiv:cmp-lg/9505040): O, then B- and I- of each class. An answer is
the likeliest sequence in which no I- comes without its B-.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.tagging.entities import Entity

Array = np.ndarray[Any, np.dtype[Any]]
OUTSIDE = 0
_LEAST = 1e-12  # of a probability inside a logarithm


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as an encoder reads it. `places`: (start, end) of the characters of each token, of which those
    without any (special ones, white space) are not tagged."""

    ids: list[int]
    places: list[tuple[int, int]]
    truncated: bool

    @property
    def tagged(self) -> list[int]:
        """Numbers of the tokens that have characters."""
        return [number for number, (start, end) in enumerate(self.places) if end > start]


def tokens_of(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Every text, cut to what the tokenizer lets through."""
    found = tokenizer.encode_batch(list(texts))
    return [
        Tokens(
            one.ids,
            [
                (0, 0) if special else _stripped(text, *place)
                for place, special in zip(one.offsets, one.special_tokens_mask, strict=True)
            ],
            bool(one.overflowing),
        )
        for text, one in zip(texts, found, strict=True)
    ]


def tag_names(classes: Sequence[str]) -> list[str]:
    """The tags in the order of a version's logits.

    >>> tag_names(["city"])
    ['O', 'B-city', 'I-city']
    """
    return ["O", *(f"{kind}-{name}" for name in classes for kind in "BI")]


def tags_of(
    places: Sequence[tuple[int, int]], entities: Sequence[Entity], classes: Sequence[str]
) -> tuple[Array, list[Entity]]:
    """(tag numbers [places], entities that no whole tokens make up).

    A token that is partly in an entity belongs to it; of overlapping entities the first one counts.

    >>> found, cut = tags_of([(0, 2), (3, 6), (6, 11)], [Entity(3, 9, "city")], ["city"])
    >>> found.tolist(), cut
    ([0, 1, 2], [Entity(start=3, end=9, label='city')])
    """
    found = np.zeros(len(places), dtype=np.int64)
    cut = []
    number = {name: 1 + 2 * place for place, name in enumerate(classes)}
    for one in sorted(entities):
        inside = [place for place, (start, end) in enumerate(places) if start < one.end and end > one.start]
        whole = bool(inside) and (places[inside[0]][0], places[inside[-1]][1]) == (one.start, one.end)
        if not whole:
            cut.append(one)
        if inside and one.label in number and not found[inside].any():
            found[inside[0]] = number[one.label]
            found[inside[1:]] = number[one.label] + 1
    return found, cut


def softmax(logits: Array, temperature: float) -> Array:
    """Softmax over the tags of each token: [..., tags] from logits divided by the version's temperature.

    >>> softmax(np.array([[[2.0, 0.0]]]), 2.0).round(3).tolist()
    [[[0.731, 0.269]]]
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    weights = np.exp(scaled)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def likeliest(scores: Array) -> Array:
    """The likeliest legal tags [tokens] of scores [tokens, tags] (Viterbi 1967); [] of no tokens.

    >>> likeliest(np.array([[0.5, 0.4, 0.1], [0.3, 0.1, 0.6]])).tolist()
    [1, 2]
    """
    best = scores.argmax(axis=1)
    return best if legal(best) else _searched(np.log(np.maximum(scores, _LEAST)))


def legal(tags: Array) -> bool:
    """Whether every I- follows a B- or I- of its class.

    >>> legal(np.array([0, 1, 2, 2])), legal(np.array([1, 4])), legal(np.array([2]))
    (True, False, False)
    """
    before = np.concatenate([[OUTSIDE], tags[:-1]])
    inside = (tags > 0) & (tags % 2 == 0)
    return bool(((before == tags) | (before == tags - 1))[inside].all())


def entities_of(
    places: Sequence[tuple[int, int]], tags: Sequence[int], scores: Array, classes: Sequence[str]
) -> list[tuple[Entity, float]]:
    """Entities of legal tags, each with the product of its tags' scores [tokens, tags].

    >>> scores = np.array([[0.1, 0.8, 0.1], [0.3, 0.2, 0.5]])
    >>> entities_of([(0, 3), (4, 8)], [1, 2], scores, ["city"])
    [(Entity(start=0, end=8, label='city'), 0.4)]
    """
    found: list[tuple[Entity, float]] = []
    for token, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        own, (start, end) = float(scores[token, tag]), places[token]
        if tag % 2:
            found.append((Entity(start, end, classes[tag // 2]), own))
        else:
            one, score = found[-1]
            found[-1] = (one._replace(end=end), score * own)
    return found


def held_classes(scores: Array) -> Array:
    """Probability that a text has an entity of each class: [classes] from scores [tokens, tags]."""
    return np.asarray(1 - (1 - scores[:, 1::2]).prod(axis=0))


def _searched(logs: Array) -> Array:
    """The best legal path; an I- may only follow the B- or the I- of its class."""
    tokens, tags = logs.shape
    before = np.zeros((tokens, tags), dtype=np.int64)
    total = logs[0].copy()
    total[2::2] = -np.inf
    for token in range(1, tokens):
        own = np.empty(tags)
        before[token] = total.argmax()
        own[:] = total.max()
        begun = total[2::2] < total[1::2]
        before[token, 2::2] = np.arange(2, tags, 2) - begun
        own[2::2] = np.maximum(total[1::2], total[2::2])
        total = own + logs[token]
    path = [int(total.argmax())]
    for token in range(tokens - 1, 0, -1):
        path.append(int(before[token, path[-1]]))
    return np.array(path[::-1], dtype=np.int64)


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """A place without the white space that some tokenizers count to the word behind it."""
    inside = text[start:end]
    first = start + len(inside) - len(inside.lstrip())
    return first, first + len(inside.strip())
