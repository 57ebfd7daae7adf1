"""A version's sketch: cells in which every row is counted once and for all, and the reference in those cells.

A series is one number a row. Its cells are parted by values of the reference (the last row of each of the
pager's bins), and every such value has a cell of its own, so that ties keep together:

    (< e1) (= e1) (e1 .. e2) (= e2) … (> eU)            2U + 1 cells;  classes: one cell each.

Cell counts are all that severity and pager need: ranks among the reference rows, in the pager's bins and with
ties broken by uniform numbers, follow from them exactly (monitor/ranks.py). They add up over any rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from exporter import answers
from exporter.answered import Answered, Floats, columns_of
from exporter.descriptors import LANGUAGES, WORD_BUCKETS
from exporter.profile import FITTED, Profile, fit_profile

Ints: TypeAlias = npt.NDArray[np.int64]
Bins = Literal["ends", "even"]
FORMAT = 1

# Shares of the reference below each bin's end: fine at both ends, where new texts and wrong answers gather.
ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
EVEN = 16
NUMBERS = ("similarity", "confidence", "characters", "non_letters", "repetition", *FITTED)
CLASSES = ("label", "language")
LATENCY = tuple(float(2 ** (step / 2)) for step in range(-4, 29))  # ms: fixed, the reference has none
SERIES = (*NUMBERS, *CLASSES, "latency")
GENERATED = answers.NAMES  # of language models, whose sketches have these series too
SLICED = ("similarity", "confidence", "label")  # the strongest: counted by slice too, see slices.py


def gaps(reference_rows: int, bins: Bins) -> list[int]:
    """Group the n + 1 gaps of n reference rows in bins, by place only: how many gaps each bin holds.

    >>> gaps(9, "even")
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> sum(gaps(500, "ends")), gaps(500, "ends")[:4]
    (501, [5, 5, 15, 25])
    """
    total = reference_rows + 1
    shares = [k / EVEN for k in range(1, EVEN + 1)] if bins == "even" else ENDS
    edges = sorted({max(1, round(share * total)) for share in shares})
    return [int(size) for size in np.diff([0, *edges])]


def edges_of(reference: Floats) -> Floats:
    """The values that part the cells, from reference values without NaN: ascending and distinct."""
    if not reference.size:
        return np.empty(0)
    last = np.cumsum(gaps(reference.size, "ends"))[:-1] - 1
    edges: Floats = np.unique(np.sort(reference)[last])
    return edges


def cells(edges: Floats, values: Floats) -> Ints:
    """The cell of each value, -1 for NaN: [n].

    >>> cells(np.array([1.0, 2.0]), np.array([0.5, 1.0, 1.5, 2.0, 9.0, np.nan])).tolist()
    [0, 1, 2, 3, 4, -1]
    """
    found = np.searchsorted(edges, values, side="left") + np.searchsorted(edges, values, side="right")
    return np.where(np.isfinite(values), found, -1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sketch:
    """Immutable, like the version that it belongs to."""

    labels: tuple[str, ...]
    edges: Mapping[str, Floats]  # of NUMBERS and latency
    reference: Mapping[str, Ints]  # series -> rows in each cell
    right: Ints  # right answers among the reference rows in each cell of confidence
    wrong: Ints
    profile: Profile
    name: str = ""  # of this content
    slices: tuple[str, ...] = ()  # metadata keys by which rows are counted too: no content, the user's choice

    @cached_property
    def series(self) -> tuple[str, ...]:
        """The series that it counts."""
        return (*SERIES, *(name for name in GENERATED if name in self.edges))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many cells each series has."""
        classes = {"label": len(self.labels), "language": len(LANGUAGES)}
        return {name: classes.get(name) or 2 * self.edges[name].size + 1 for name in self.series}

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where the cells of each series lie in a row of counts."""
        ends = np.cumsum([self.sizes[name] for name in self.series]).tolist()
        return {name: slice(end - self.sizes[name], end) for name, end in zip(self.series, ends, strict=True)}

    @cached_property
    def sliced_cells(self) -> Ints:
        """The cells that are counted by slice, in a row of counts."""
        return np.concatenate([np.arange(self.cells)[self.places[name]] for name in SLICED])

    @cached_property
    def slice_places(self) -> dict[str, slice]:
        """Where the cells of each series lie in a row of a slice's counts."""
        ends = np.cumsum([self.sizes[name] for name in SLICED]).tolist()
        return {name: slice(end - self.sizes[name], end) for name, end in zip(SLICED, ends, strict=True)}

    @property
    def cells(self) -> int:
        """Length of a row of counts."""
        return sum(self.sizes.values())

    def numbers(self, rows: Answered) -> dict[str, Floats]:
        """Every series of these rows: [n] each."""
        return dict(rows.numbers) | self.profile.numbers(rows)

    def place(self, rows: Sequence[Any]) -> Ints:
        """Where each row (`answered.AnsweredRow`) is counted: [n, series]; NaN in a cell behind the last."""
        numbers = self.numbers(columns_of(rows, self.labels))
        placed = np.empty((len(rows), len(self.series)), dtype=np.int64)
        for number, name in enumerate(self.series):
            own = self._cells(name, numbers[name])
            placed[:, number] = np.where(own >= 0, own + self.places[name].start, self.cells)
        return placed

    def count(self, placed: Ints) -> Ints:
        """Rows in each cell of every series: [cells]."""
        return np.bincount(placed.ravel(), minlength=self.cells + 1)[: self.cells]

    def _cells(self, name: str, values: Floats) -> Ints:
        if name in CLASSES:
            return np.where(np.isfinite(values), values, -1).astype(np.int64)
        return cells(self.edges[name], values)


def fit_sketch(
    rows: Sequence[Any],
    truth: Sequence[str | None],
    labels: Sequence[str],
    *,
    nearest: npt.NDArray[Any] | None = None,
    generated: bool = False,
) -> Sketch:
    """Sketch of reference rows (`answered.AnsweredRow`) and their truth, in the manifest's order of labels.

    Every second row makes the profile; the series that come from it are ranked among the others. `generated`:
    the rows are answers of a language model.
    """
    half = rows[::2]
    profile = fit_profile(columns_of(half, labels), len(labels), nearest)
    answered = columns_of(rows, labels)
    numbers = dict(answered.numbers) | profile.numbers(answered)
    for name in FITTED:
        numbers[name] = numbers[name][1::2]
    counted_numbers = (*NUMBERS, *GENERATED) if generated else NUMBERS
    edges = {name: edges_of(numbers[name][np.isfinite(numbers[name])]) for name in counted_numbers}
    edges["latency"] = np.array(LATENCY)
    correct = [None if true is None else true == row.label for true, row in zip(truth, rows, strict=True)]
    bare = Sketch(
        labels=tuple(labels),
        edges=edges,
        reference={},
        profile=profile,
        right=np.empty(0, dtype=np.int64),
        wrong=np.empty(0, dtype=np.int64),
    )
    found = {name: bare._cells(name, numbers[name]) for name in (*counted_numbers, *CLASSES)}

    def counted(name: str, chosen: Any = slice(None)) -> Ints:
        own = found[name][chosen]
        return np.bincount(own[own >= 0], minlength=bare.sizes[name])

    return _named(
        Sketch(
            labels=tuple(labels),
            edges=edges,
            profile=profile,
            reference={name: counted(name) for name in found},
            right=counted("confidence", np.array([good is True for good in correct], dtype=bool)),
            wrong=counted("confidence", np.array([good is False for good in correct], dtype=bool)),
        )
    )


def to_bytes(sketch: Sketch) -> bytes:
    """A zip of plain arrays, no pickle; `from_bytes` gives the same sketch back."""
    arrays: dict[str, Any] = {
        "format": np.array(FORMAT),
        "labels": np.array(sketch.labels, dtype=np.str_),
        "right": sketch.right,
        "wrong": sketch.wrong,
        "class_means": sketch.profile.class_means.astype(np.float32),
        "centroids": sketch.profile.centroids.astype(np.float32),
        "word_counts": sketch.profile.word_counts.astype(np.int32),
        **{f"edges:{name}": values for name, values in sketch.edges.items()},
        **{f"reference:{name}": values for name, values in sketch.reference.items()},
    }
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(content: bytes) -> Sketch:
    """Read what `to_bytes` wrote."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}

    def part(kind: str) -> dict[str, Any]:
        return {name.removeprefix(kind): value for name, value in held.items() if name.startswith(kind)}

    return Sketch(
        labels=tuple(held["labels"].tolist()),
        edges=part("edges:"),
        reference=part("reference:"),
        right=held["right"],
        wrong=held["wrong"],
        profile=Profile(
            class_means=held["class_means"].astype(np.float64),
            centroids=held["centroids"].astype(np.float64),
            word_counts=held["word_counts"].astype(np.int64).reshape(WORD_BUCKETS),
        ),
        name=_name(content),
    )


def _named(sketch: Sketch) -> Sketch:
    """As it will be read again."""
    return from_bytes(to_bytes(sketch))


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
