"""Engines answer texts with a sealed version; one file each, found by walking this package.

An engine module has `NAME`, as manifests spell it, and `open_version_engine(version, threads) -> Engine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Protocol, cast

from exporter.errors import NoEngineError
from trainer.artifact import Version


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered text. `scores` sum to 1, in the manifest's order of labels."""

    label_index: int
    scores: tuple[float, ...]
    embedding: bytes  # fp16 little endian, unit length
    similarity: float  # cosine to the nearest training text, in [-1, 1]
    tokens: int
    truncated: bool

    @property
    def score(self) -> float:
        return self.scores[self.label_index]


class Engine(Protocol):
    """The answer to a text never depends on its batch mates."""

    name: str
    labels: list[str]

    def run(self, texts: Sequence[str]) -> list[Answer]:
        """Answers in the order of `texts`."""

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Answer]]]:
        """Micro-batches as they are done: positions in `texts`, and their answers."""

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""


def open_engine(version: Version, *, threads: int) -> Engine:
    """The first engine of the manifest that exists here. Raises NoEngineError, VersionRefusedError."""
    known = _engines()
    for name in version.manifest.engines:
        if name in known:
            return cast(Engine, known[name].open_version_engine(version, threads=threads))
    raise NoEngineError(version.path, version.manifest.engines, sorted(known))


@cache
def _engines() -> dict[str, ModuleType]:
    found = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.NAME: module for module in found}
