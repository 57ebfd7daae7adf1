"""Task types: one file each, found by walking this package.

A row's truth is one string, its label in canonical form: predictions, labels, verdicts and rollups keep and
compare such strings, whatever the task. A task says how it is read, which classes it names, and how the
logits of a version become an answer in the same form.

The shape of the targets says what is learnt, as in scikit-learn: [rows] class numbers are learnt by softmax
and cross-entropy, [rows, classes] of 0 and 1 by sigmoids and binary cross-entropy.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, cast

import numpy as np

from trainer.cells import Cell
from trainer.errors import UnknownTaskError

Array = np.ndarray[Any, np.dtype[Any]]


class Task(Protocol):
    """What a module of this package offers."""

    @staticmethod
    def parse(text: Cell, label: Cell) -> tuple[str, str]:
        """(text, canonical label) of a record's two cells; CellError says what is wrong."""
        ...

    @staticmethod
    def spelled(label: str) -> str:
        """The canonical form of what a client calls the truth; ValueError where it has none."""
        ...

    @staticmethod
    def names(label: str) -> list[str]:
        """The classes that a canonical label names; ValueError where it is none of this task."""
        ...

    @staticmethod
    def targets(labels: Sequence[str], classes: Sequence[str]) -> Array:
        """What is learnt from canonical labels whose names are all among `classes`."""
        ...

    @staticmethod
    def decode(logits: Array, temperature: float) -> Array:
        """Probabilities [rows, classes] from logits [rows, classes]."""
        ...

    @staticmethod
    def thresholds(scores: Array, targets: Array) -> list[float]:
        """What is sealed with a version to decide by, from hold-out rows; empty where nothing is."""
        ...

    @staticmethod
    def answers(
        scores: Array, classes: Sequence[str], thresholds: Sequence[float]
    ) -> list[tuple[str, float]]:
        """(canonical label, probability that exactly it is right) of every row of scores."""
        ...

    @staticmethod
    def vocabulary(classes: Sequence[str], answered: Sequence[str]) -> list[str]:
        """Canonical labels whose shares are watched, of a version with these classes and answers."""
        ...

    @staticmethod
    def told(label: str, parts: Sequence[float]) -> dict[str, Any]:
        """What an answer over HTTP says beside the canonical label; `parts` are the scores of its parts."""
        ...

    @staticmethod
    def probability(label: str, scores: Sequence[float], classes: Sequence[str]) -> float:
        """Probability that one row's scores give to a canonical label; 0 where it names an unknown class."""
        ...


def names() -> list[str]:
    """Names of all tasks, as specs and manifests spell them.

    >>> names()
    ['classification', 'multi-label', 'text-generation', 'token-classification']
    """
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


@cache  # asked for every row, and with every answer
def load(name: str) -> Task:
    """The task of a name; UnknownTaskError lists those there are."""
    if name not in names():
        raise UnknownTaskError(name, names())
    return cast("Task", importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


MOST_WATCHED = 100


def most_frequent(answered: Sequence[str]) -> list[str]:
    """At most MOST_WATCHED canonical labels, sorted.

    >>> most_frequent(["b", "a", "b"])
    ['a', 'b']
    """
    counts = Counter(answered)
    return sorted(sorted(counts, key=lambda label: (-counts[label], label))[:MOST_WATCHED])


def watched(label: str) -> str:
    """What a canonical label is counted as where shares are watched: itself, of entities their kinds.

    >>> watched("a"), watched('[[0, 4, "city"], [9, 12, "city"]]')
    ('a', '["city"]')
    """
    if not label.startswith("[["):  # entities; nearly every text has others
        return label
    try:
        kinds = sorted({name for _, _, name in json.loads(label)})
    except (ValueError, TypeError, RecursionError):  # the name of a class
        return label
    return json.dumps(kinds, ensure_ascii=False)


def classes_of(task: Task, labels: Sequence[str]) -> list[str]:
    """Every class that labels name, sorted: the order of a version's logits.

    >>> classes_of(load("multi-label"), ['["b"]', '["a", "b"]'])
    ['a', 'b']
    """
    return sorted({name for label in set(labels) for name in task.names(label)})
