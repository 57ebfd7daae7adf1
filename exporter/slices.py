"""Slices: the rows with one value of a client's metadata key, counted beside the whole in the same blocks.

A key has MOST_VALUES slices, for the values that came first under a version; all others are one slice more,
"other". A row without the key is in none of them, and a real number is no slice.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from exporter.sketch import Ints, Sketch

MOST_VALUES = 9
OTHER = "other"
_NAMED = re.compile(r"[\w .+-]{1,64}")  # what clients wrote ends in messages: no links, mentions, controls


def key_of(name: str) -> str:
    """The metadata key of a slice.

    >>> key_of("language=de")
    'language'
    """
    return name.partition("=")[0]


def name_slice(key: str, value: Any, known: Iterable[str]) -> str | None:
    """The slice of a row whose metadata has this value, `known` being the slices that came before.

    >>> name_slice("language", "de", []), name_slice("language", None, []), name_slice("size", 1.5, [])
    ('language=de', None, None)
    >>> name_slice("user", "u10", [f"user=u{number}" for number in range(9)])
    'user=other'
    """
    if value is None or isinstance(value, float):
        return None
    text, other = str(value), f"{key}={OTHER}"
    name = f"{key}={text}"
    own = {one for one in known if key_of(one) == key} - {other}
    fits = _NAMED.fullmatch(text) is not None and len(own) < MOST_VALUES
    return name if name in own or fits else other


def count_slices(sketch: Sketch, placed: Ints, rows: Sequence[Any], known: Iterable[str]) -> dict[str, Ints]:
    """Rows of every slice in the cells of `sketch.slice_places`: [cells]; new slices come behind known ones.

    `placed` is `sketch.place(rows)`; the rows have `metadata`.
    """
    members: dict[str, list[int]] = {name: [] for name in known if key_of(name) in sketch.slices}
    for key in sketch.slices:
        named: dict[Any, str | None] = {}
        for number, row in enumerate(rows):
            value = row.metadata.get(key)
            if value not in named:
                named[value] = name_slice(key, value, members)
            if (name := named[value]) is not None:
                members.setdefault(name, []).append(number)
    return {name: sketch.count(placed[numbers])[sketch.sliced_cells] for name, numbers in members.items()}


def pack(counts: Mapping[str, Ints]) -> dict[str, Any]:
    """The columns of a block; it has fewer than 256 rows."""
    if not counts:
        return {"slices": None, "slice_counts": None}
    packed = np.stack(list(counts.values())).astype(np.uint8).tobytes()
    return {"slices": list(counts), "slice_counts": zlib.compress(packed, 1)}


def unpack(names: Sequence[str] | None, packed: bytes | None) -> dict[str, Ints]:
    """Read what `pack` wrote."""
    if not names or packed is None:
        return {}
    return dict(zip(names, _rows(packed, len(names)), strict=True))


class SliceSum:
    """Adds the slices of blocks and of rows up, by stratum."""

    def __init__(self) -> None:
        self._packed: dict[tuple[int, tuple[str, ...]], list[bytes]] = {}
        self._total: dict[str, dict[int, Ints]] = {}

    def add_block(self, stratum: int, names: Sequence[str] | None, packed: bytes | None) -> None:
        """What a block holds; unpacked at the end, all blocks that know the same slices at once."""
        if names and packed is not None:
            self._packed.setdefault((stratum, tuple(names)), []).append(packed)

    def add(self, stratum: int, counts: Mapping[str, Ints]) -> None:
        """What `count_slices` counted."""
        for name, cells in counts.items():
            own = self._total.setdefault(name, {})
            own[stratum] = own.get(stratum, 0) + cells

    def total(self) -> dict[str, dict[int, Ints]]:
        """Rows in each cell of every slice that has rows, by stratum."""
        for (stratum, names), blocks in self._packed.items():
            sums = np.stack([_rows(block, len(names)) for block in blocks]).sum(axis=0)
            self.add(stratum, dict(zip(names, sums, strict=True)))
        self._packed.clear()
        found = {
            name: {stratum: cells for stratum, cells in sorted(strata.items()) if cells.any()}
            for name, strata in self._total.items()
        }
        return {name: strata for name, strata in found.items() if strata}


def _rows(packed: bytes, slices: int) -> Ints:
    return np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(slices, -1).astype(np.int64)
