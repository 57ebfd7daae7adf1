"""Answered rows made by hand, and their tallies: what detectors read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from exporter.answers import describe_answer
from exporter.descriptors import describe
from exporter.sketch import Sketch, fit_sketch
from exporter.sketches import ReplayedRow
from monitor.ranks import Ints
from monitor.reference import Reference
from monitor.tallies import CORRECT, FAILED, Tally
from trainer.generation.answers import Said

NAMES = ("billing", "sales", "tech", "travel")
HIDDEN = 8
WORDS = ("card", "bill", "refund", "price", "offer", "order", "server", "login", "flight", "hotel")
OTHERS = ("tarjeta", "cuenta", "precio", "oferta", "pedido", "vuelo", "los", "que", "para", "como")
_MEANS = np.random.default_rng(99).normal(size=(4, HIDDEN))
NEAREST = np.repeat(_MEANS / np.linalg.norm(_MEANS, axis=1, keepdims=True), 10, axis=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    rows: Sequence[ReplayedRow]
    truth: Sequence[str | None]


@lru_cache(maxsize=1024)
def sample(rows: int, seed: int, *, worse: float = 0.0) -> Sample:
    """`worse` sd lower similarity and confidence, other classes, other and longer texts, wrong answers."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.4, 0.3, 0.2, 0.1]) * (1 - worse) + np.array([0.1, 0.2, 0.3, 0.4]) * worse
    classes = rng.choice(4, rows, p=shares / shares.sum()).tolist()
    made = [_row(rng, index, worse) for index in classes]
    truth = [
        NAMES[index if rng.random() < row.score else (index + 1) % 4]
        for index, row in zip(classes, made, strict=True)
    ]
    spoken = np.random.default_rng((seed, 1))
    return Sample(rows=[_speaking(spoken, row, worse) for row in made], truth=truth)


def constant(rows: int) -> Sample:
    """The same row again and again."""
    one = sample(1, 0)
    return Sample(rows=[*one.rows] * rows, truth=[one.rows[0].label] * rows)


def blank(rows: int) -> Sample:
    """Rows of which nothing is known."""
    nothing = ReplayedRow(label="?", score=np.nan, similarity=None, characters=np.nan, run_ms=np.nan)  # type: ignore[arg-type]
    return Sample(rows=[nothing] * rows, truth=[None] * rows)


def fitted(found: Sample) -> Sketch:
    return fit_sketch(found.rows, found.truth, NAMES, nearest=NEAREST, generated=True)


@lru_cache(maxsize=1024)
def held_to(found: Sample) -> Reference:
    """A reference; latency's first rows are those of the sample."""
    sketch = fitted(found)
    return Reference(model="router", version="v1", sketch=sketch, first=tally(sketch, found))


def tally(sketch: Sketch, found: Sample, *, first_seq: int = 1) -> Tally:
    """Predictions, counted."""
    counts = sketch.count(sketch.place(found.rows))
    return _tally(sketch.places, counts, len(found.rows), first_seq)


def answers(found: Sample, *, first_seq: int = 1) -> Tally:
    """Labels, counted."""
    known = [true == row.label for true, row in zip(found.truth, found.rows, strict=True) if true is not None]
    counts = np.array([len(known) - sum(known), sum(known)])
    return _tally(CORRECT, counts, len(known), first_seq)


def requests(found: Sample, *, first_seq: int = 1) -> Tally:
    """Requests, counted: the slowest hundredth of the clean ones failed."""
    failed = sum(row.run_ms > np.exp(2.4) for row in found.rows)
    return _tally(FAILED, np.array([failed, len(found.rows) - failed]), len(found.rows), first_seq)


def _tally(places: Mapping[str, slice], counts: Ints, rows: int, first_seq: int) -> Tally:
    strata = {0: counts} if rows else {}
    return Tally(places=places, strata=strata, rows=rows, first_seq=first_seq, last_seq=first_seq + rows - 1)


def _speaking(rng: np.random.Generator, row: ReplayedRow, worse: float) -> ReplayedRow:
    """The row with an answer of a language model: of other length, in circles, refused, empty, no JSON."""
    words = rng.choice(np.array(WORDS), int(rng.integers(4, 9) + 6 * worse)).tolist()
    words += words * int(2 * worse)
    text = " ".join(words)
    kind = rng.random()
    if kind < 0.85 * (1 - worse):
        text = json.dumps({"answer": text})
    elif kind < 0.9 - 0.6 * worse:
        text = "I'm sorry, I can't help with that."
    elif kind < 0.93 - 0.3 * worse:
        text = ""
    likely, prompt = (float(rng.normal() / 10 - 0.5 - worse) for _ in range(2))
    described = describe_answer(Said(text, len(words), likely, prompt))
    return replace(row, descriptors=(*(row.descriptors or ()), *described))


def _row(rng: np.random.Generator, index: int, worse: float) -> ReplayedRow:
    vector = _MEANS[index] + rng.normal(size=HIDDEN) * (0.3 + worse)
    pool = np.array(OTHERS if rng.random() < worse else WORDS)
    text = " ".join([*rng.choice(pool, int(rng.integers(3, 9) + 6 * worse)), *(["!!"] * int(4 * worse))])
    described: Any = describe(text)
    return ReplayedRow(
        label=NAMES[index],
        score=float(1 / (1 + np.exp(worse - 2 - rng.normal()))),
        similarity=float(0.6 + 0.1 * (rng.normal() - worse)),
        characters=len(text),
        embedding=(vector / np.linalg.norm(vector)).astype("<f2").tobytes(),
        descriptors=described.numbers,
        words=described.words,
        run_ms=float(np.exp(rng.normal() + 2 * worse)),
    )
