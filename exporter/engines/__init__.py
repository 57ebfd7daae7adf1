"""Engines answer texts with a sealed version; one file each, found by walking this package.

An engine module has `NAME`, as manifests spell it, `DEVICE`, `open_version_engine(version, threads)`, which
returns an Engine, and `problem() -> str | None`, which says why its device cannot be used on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Protocol, cast

from exporter.errors import NoEngineError
from exporter.packing import Packing
from exporter.settings import Device, Precision
from trainer.artifact import EngineFile
from trainer.decoder.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered text. `scores` are in the manifest's order of labels; of one label out of several they
    sum to 1."""

    label: str  # in the canonical form of the version's task
    score: float  # probability that this label is right
    scores: tuple[float, ...]
    embedding: bytes  # fp16 little endian, unit length
    similarity: float  # cosine to the nearest training text, in [-1, 1]
    tokens: int
    truncated: bool
    parts: tuple[float, ...] = ()  # probability of each part of a label that has several, in its order


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as its engine reads it."""

    ids: Sequence[int]
    length: int  # what it takes in a micro-batch of its own, at least len(ids)
    truncated: bool
    places: Sequence[tuple[int, int]] = ()  # of each token's characters, where tokens are answered


@dataclass(eq=False)
class Encoder:
    """An open session; versions that differ in their heads alone have one together."""

    session: Any
    memory_bytes: int = 0  # measured where it was opened


class Engine(Protocol):
    """The answer to a text never depends on its batch mates."""

    name: str
    encoder: Encoder | None  # what it may have in common with others
    labels: list[str]
    provider: str  # what really runs it, as its library says
    packing: Packing  # which texts `answer` may be given together

    def run(self, texts: Sequence[str]) -> list[Answer]:
        """Answers in the order of `texts`."""

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts cut to what the model reads."""

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        """One micro-batch within `packing`, on whichever thread; several may ask at a time."""

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""


def open_engine(
    version: Sealed, *, threads: int, device: Device = "cpu", precision: Precision = "auto"
) -> Engine:
    """The first engine of the manifest for this device: manifests name the fastest first.

    Raises NoEngineError, DeviceError (the device cannot be used here), VersionRefusedError.
    """
    named = usable(version.manifest.engines, precision)
    known = {name: module for name, module in _engines().items() if device == module.DEVICE}
    for name in named:
        if name in known:
            return cast(Engine, known[name].open_version_engine(version, threads=threads))
    raise NoEngineError(version.path, named, sorted(known))


def open_engines(version: Sealed, *, threads: int, device: Device = "cpu") -> dict[str, Engine]:
    """Every engine that the version may be served with on this device, by name."""
    return {
        name: module.open_version_engine(version, threads=threads)
        for name, module in _engines().items()
        if device == module.DEVICE and name in usable(version.manifest.engines)
    }


def usable(engines: Mapping[str, EngineFile], precision: Precision = "auto") -> list[str]:
    """Names of the engines that a version may be served with; "fp32": without those that round more.

    >>> usable({"cpu-fp32": EngineFile(file="model.onnx", precision="fp32")})
    ['cpu-fp32']
    """
    return [
        name for name, one in engines.items() if one.refused is None and precision in ("auto", one.precision)
    ]


def device_problem(device: Device) -> str | None:
    """Why no engine can use this device on this machine, and the mend; None where one can."""
    found = [module.problem() for module in _engines().values() if device == module.DEVICE]
    return None if None in found else "; ".join(found)


@cache
def _engines() -> dict[str, ModuleType]:
    found = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.NAME: module for module in found}
