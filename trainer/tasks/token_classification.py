"""Passages of a text and what each is; see trainer.tagging.entities for the canonical form.

The score of an answer is the probability of exactly these passages, with the tokens taken as independent
given the text. The classes that a label names are the kinds of its passages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.cells import Cell
from trainer.errors import CellError, UnsupportedByTaskError
from trainer.tagging import TASK
from trainer.tagging.entities import canonical, entities, kinds, listed, trimmed
from trainer.tagging.tags import softmax
from trainer.tasks import most_frequent

Array = np.ndarray[Any, np.dtype[Any]]


def parse(text: Cell, label: Cell) -> tuple[str, str]:
    """The text as it is, its entities without spaces at their ends."""
    said = text.string()
    return said, canonical([trimmed(said, one) for one in listed(label)])


def spelled(label: str) -> str:
    """The entities that a JSON list names, in their canonical form.

    >>> spelled('[{"end": 7, "label": "city", "start": 3}]')
    '[[3, 7, "city"]]'
    """
    try:
        return canonical(listed(Cell("the label", label)))
    except CellError as error:
        raise ValueError(str(error)) from error


def names(label: str) -> list[str]:
    """The kinds of entities in a label, sorted."""
    return kinds(label)


def targets(labels: Sequence[str], classes: Sequence[str]) -> Array:
    """Which kinds of entities each text has: 0 or 1, float32 [rows, classes].

    >>> targets(['[[0, 4, "b"]]', '[]'], ["a", "b"]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    number = {name: place for place, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in enumerate(labels):
        found[row, [number[name] for name in names(label)]] = 1
    return found


def decode(logits: Array, temperature: float) -> Array:
    """Softmax over the tags of each token: [..., tags]."""
    return softmax(logits, temperature)


def thresholds(_scores: Array, _targets: Array) -> list[float]:
    """None: the likeliest legal sequence of tags answers."""
    return []


def answers(_scores: Array, _classes: Sequence[str], _thresholds: Sequence[float]) -> list[tuple[str, float]]:
    """Entities do not follow from one row of scores a text: UnsupportedByTaskError."""
    raise UnsupportedByTaskError(TASK, "what is answered by one vector a text, without its tokens")


def vocabulary(_classes: Sequence[str], answered: Sequence[str]) -> list[str]:
    """The sets of kinds of entities that are answered most often, as trainer.tasks.watched names them."""
    return most_frequent([json.dumps(names(label), ensure_ascii=False) for label in answered])


def told(label: str, parts: Sequence[float]) -> dict[str, Any]:
    """Every entity with its place, and the probability that it is there.

    >>> told('[[3, 7, "city"]]', [0.9])
    {'entities': [{'start': 3, 'end': 7, 'label': 'city', 'score': 0.9}]}
    """
    pairs = zip(entities(label), parts, strict=True)
    return {"entities": [{**one._asdict(), "score": score} for one, score in pairs]}


def probability(label: str, scores: Sequence[float], classes: Sequence[str]) -> float:
    """Probability that a text has exactly these kinds of entities, each kind with a score of its own.

    >>> round(probability('[[3, 7, "a"]]', [0.9, 0.4], ["a", "b"]), 6)
    0.54
    """
    wanted = set(names(label))
    if not wanted <= set(classes):
        return 0.0
    return float(
        np.prod([one if name in wanted else 1 - one for name, one in zip(classes, scores, strict=True)])
    )
