"""Engines answer texts with a sealed version; one file each, found by walking this package.

An engine module has `NAME`, as manifests spell it, `DEVICE`, `open_version_engine(version, threads)`, which
returns an Engine, and `problem() -> str | None`, which says why its device cannot be used on this machine.
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
from exporter.settings import Device
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
    provider: str  # what really runs it, as its library says
    tokenise_s: float  # of the time until the newest micro-batch of `stream`, what went into tokens

    def run(self, texts: Sequence[str]) -> list[Answer]:
        """Answers in the order of `texts`."""

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Answer]]]:
        """Micro-batches as they are done: positions in `texts`, and their answers."""

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""


def open_engine(version: Version, *, threads: int, device: Device = "cpu") -> Engine:
    """The first engine of the manifest for this device.

    Raises NoEngineError, DeviceError (the device cannot be used here), VersionRefusedError.
    """
    known = {name: module for name, module in _engines().items() if device == module.DEVICE}
    for name in version.manifest.engines:
        if name in known:
            return cast(Engine, known[name].open_version_engine(version, threads=threads))
    raise NoEngineError(version.path, version.manifest.engines, sorted(known))


def device_problem(device: Device) -> str | None:
    """Why no engine can use this device on this machine, and the mend; None where one can."""
    found = [module.problem() for module in _engines().values() if device == module.DEVICE]
    return None if None in found else "; ".join(found)


@cache
def _engines() -> dict[str, ModuleType]:
    found = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.NAME: module for module in found}
