"""Task types: one file each, found by walking this package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Protocol, cast

import numpy as np

from trainer.errors import UnknownTaskError

Array = np.ndarray[Any, np.dtype[Any]]


class Task(Protocol):
    """How the logits of a version become an answer."""

    @staticmethod
    def decode(logits: Array, temperature: float) -> Array:
        """Probabilities [rows, labels] from logits [rows, labels]."""
        ...


def names() -> list[str]:
    """Names of all tasks.

    >>> "classification" in names()
    True
    """
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Task:
    """The task of a name; UnknownTaskError lists those there are."""
    if name not in names():
        raise UnknownTaskError(name, names())
    return cast("Task", importlib.import_module(f"{__name__}.{name}"))
