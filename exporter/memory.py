"""What loaded versions take, and which of them make room for others."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import psutil

from exporter.engines import Answer, Encoded, Encoder, Engine


class Unloaded:
    """Stands where an engine was: it knows what the engine was called and answers nothing."""

    encoder: Encoder | None = None

    def __init__(self, engine: Engine) -> None:
        self.name, self.labels, self.provider = engine.name, engine.labels, engine.provider
        self.packing = engine.packing

    def run(self, texts: Sequence[str]) -> list[Answer]:  # noqa: ARG002 (an Engine)
        raise RuntimeError("an unloaded version was asked")

    def encode(self, texts: Sequence[str]) -> list[Encoded]:  # noqa: ARG002
        raise RuntimeError("an unloaded version was asked")

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:  # noqa: ARG002
        raise RuntimeError("an unloaded version was asked")

    def close(self) -> None:
        """Nothing is held."""


def held_bytes(held: Iterable[tuple[int, Encoder | None]]) -> int:
    """Of versions: each one's own, and encoders that several have in common once.

    >>> one = Encoder(None, 100)
    >>> held_bytes([(1, one), (2, one), (3, None)])
    106
    """
    pairs = list(held)
    encoders = {id(encoder): encoder.memory_bytes for _, encoder in pairs if encoder is not None}
    return sum(own for own, _ in pairs) + sum(encoders.values())


def longest_unused(models: Iterable[str], used_at: Mapping[str, float]) -> str | None:
    """Who goes next, None where there is one only: what was used last never goes.

    >>> longest_unused(["a", "b"], {"a": 2.0, "b": 1.0})
    'b'
    """
    waiting = sorted(models, key=lambda one: used_at.get(one, 0.0))
    return waiting[0] if len(waiting) > 1 else None


def resident_bytes() -> int:
    """Of this process, as the kernel counts."""
    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Let the C library return what was freed; without it the process keeps the size that it once had."""
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
