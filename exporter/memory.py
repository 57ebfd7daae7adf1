"""What loaded versions take, and which of them make room for others."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

from exporter.engines import Answer, Encoded, Engine


class Unloaded:
    """Stands where an engine was: it knows what the engine was called and answers nothing."""

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


def to_unload(taken: Mapping[str, int], used_at: Mapping[str, float], limit: int) -> list[str]:
    """Who goes so that the rest takes at most `limit` bytes: the longest unused first, the last used never.

    >>> to_unload({"a": 5, "b": 4, "c": 3}, {"a": 2.0, "b": 1.0, "c": 3.0}, limit=8)
    ['b']
    >>> to_unload({"a": 5}, {"a": 2.0}, limit=1)
    []
    """
    going: list[str] = []
    left = sum(taken.values())
    for name in sorted(taken, key=lambda one: used_at.get(one, 0.0))[:-1]:
        if left <= limit:
            break
        going.append(name)
        left -= taken[name]
    return going


def resident_bytes() -> int:
    """Of this process, as the kernel counts."""
    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Let the C library return what was freed; without it the process keeps the size that it once had."""
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
