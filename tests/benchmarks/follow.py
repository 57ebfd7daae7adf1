"""One stream through the product's own pager: tallies in, what it would have paged out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exporter.sketch import Sketch
from monitor.evidence import bettors, judge_window, open_wealth, page_score, weighted
from monitor.pager import Wealth, page_line
from monitor.policy import cause_of
from monitor.ranks import Ints
from monitor.reference import Reference, SliceReference
from monitor.slices import judge_slices, open_slices
from monitor.tallies import CORRECT, Tally

REPORTED = 0.001  # p-value of one window below which a detector reports drift
ALPHA = 0.01  # the first pager of a year with the default budget


@dataclass(slots=True)
class Followed:
    """Windows until pages, counted from the first window that `follow` was given (1)."""

    page: int | None = None  # any detector
    loss: int | None = None  # a detector whose change means loss
    by_detector: dict[str, int] = field(default_factory=dict)
    log_e: float = 0.0
    drifted: set[str] = field(default_factory=set)  # small p-value in some window


def windows(
    sketch: Sketch,
    placed: Ints,
    rows: int,
    *,
    first_seq: int = 1,
    slices: npt.NDArray[np.str_] | None = None,
) -> list[Tally]:
    """Whole windows of placed rows; `slices` [n] names each row's."""
    return [
        Tally(
            places=sketch.places,
            strata={0: sketch.count(placed[start : start + rows])},
            slices={}
            if slices is None
            else sliced(sketch, placed[start : start + rows], slices[start : start + rows]),
            rows=rows,
            first_seq=first_seq + start,
            last_seq=first_seq + start + rows - 1,
        )
        for start in range(0, len(placed) - rows + 1, rows)
    ]


def sliced(sketch: Sketch, placed: Ints, slices: npt.NDArray[np.str_]) -> dict[str, Mapping[int, Ints]]:
    """Rows of each slice in its cells."""
    return {
        name: {0: sketch.count(placed[slices == name])[sketch.sliced_cells]}
        for name in sorted(set(slices.tolist()))
    }


def answered(right: Ints, *, first_seq: int) -> Tally:
    """Labels that arrived: 1 for a right answer."""
    counts = np.bincount(right, minlength=2)
    return Tally(places=CORRECT, strata={0: counts}, rows=right.size, first_seq=first_seq)


def follow(
    sketch: Sketch, given: Iterable[Sequence[Tally]], *, alpha: float = ALPHA, run: int = 0, keys: int = 0
) -> Followed:
    """Judge each window (predictions, and labels where they came) and note when it would have paged.

    `keys` is the number of metadata keys whose slices share the budget.
    """
    reference = Reference(model=f"run {run}", version="v1", sketch=sketch)
    held = {one.name: open_wealth(one, reference) for one in bettors() if reference.counts(one.series)}
    slices: dict[str, SliceReference] = {}
    found = Followed()
    for number, tallies in enumerate(given, 1):
        for tally in tallies:
            _judge(tally, reference, held, found)
            if keys and tally.slices:
                _judge_slices(tally, reference, slices, held)
        log_es = {name: wealth.log_e for name, wealth in held.items()}
        _note(found, log_es, page_line(alpha), number, keys)
    return found


def _judge(tally: Tally, reference: Reference, held: dict[str, Wealth], found: Followed) -> None:
    for one in bettors():
        if one.reads == "requests" or one.name not in held:
            continue
        if (one.series in CORRECT) == ("correct" in tally.places):
            evidence, wealth = judge_window(one, tally, reference, held[one.name], minimum=30)
            assert wealth is not None
            held[one.name] = wealth
            if evidence.p_value is not None and evidence.p_value < REPORTED:
                found.drifted.add(one.name)


def _judge_slices(
    tally: Tally, reference: Reference, slices: dict[str, SliceReference], held: dict[str, Wealth]
) -> None:
    for name, wealth in open_slices(slices).items():
        held.setdefault(name, wealth)
    judged = judge_slices(tally, reference, slices, held)
    slices |= {one.slice: one for one in judged.grown}
    held |= judged.held


def _note(found: Followed, log_es: dict[str, float], line: float, number: int, keys: int) -> None:
    found.log_e = max(found.log_e, page_score(log_es, keys))
    for name, log_e in log_es.items():
        if weighted(name, log_e, keys) >= line:
            found.by_detector.setdefault(name, number)
            found.page = found.page or number
            if cause_of(name) in ("drift", "accuracy"):
                found.loss = found.loss or number
