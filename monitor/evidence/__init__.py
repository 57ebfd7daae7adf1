"""Evidence: what each detector says about one window, each detector in a file of its own.

A detector is any module of this package with a `detector` in it; it is found by walking the package. It names
a series (`exporter.sketch`: one number a row, counted when the row came in) and says how to bet on it and how
to say how large and how surprising a change is. The detectors of the main signals hold most of the page's
budget: `weight` is the share of it that a detector may spend, fixed beforehand.

Where the user names slices, the detectors of the whole spend their weights of 1 - SLICE_SHARE, and those that
read slices too ("similarity[language=de]") part SLICE_SHARE in proportion to their weights, equally over all
the slices that there can be: nothing depends on which of them come. The union bound over the bettors holds
whatever they have in common; a pager keeps the keys that it began with (`tables.pagers`).
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from exporter.sketch import SLICED, Sketch
from exporter.slices import MOST_VALUES
from monitor import pager, ranks
from monitor.ranks import Ints
from monitor.reference import Reference, SliceReference
from monitor.severity import Severity
from monitor.slice_names import split_name
from monitor.tallies import Tally

Reads = Literal["predictions", "labels", "requests"]
SLICE_SHARE = 0.2  # of the page's budget
MIN_REFERENCE = 20  # rows: below, the smallest bins hold no gap and a p-value says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One detector's score for one window; without enough rows there is no number."""

    detector: str
    rows: int  # rows with a value
    enough: bool
    effect: float | None = None
    p_value: float | None = None  # of this window alone: severity, not a page
    log_e: float | None = None  # of everything since the pager began, this window included
    detail: dict[str, Any] = field(default_factory=dict)  # JSON-able: names of effect and test, figures


class Detector(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def series(self) -> str: ...  # of exporter.sketch, or "correct" (answers), or "failed" (requests)
    @property
    def bet(self) -> ranks.Bet | None: ...  # None: severity only
    @property
    def reads(self) -> Reads: ...
    @property
    def means_loss(self) -> bool: ...
    @property
    def weight(self) -> float: ...  # share of the page's budget, in [0, 1]; all of them sum to 1

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:
        """Compare rows counted in the cells of the series, each with at least one row."""


@cache
def detectors() -> tuple[Detector, ...]:
    """Return every detector of the package, by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.detector for module in modules), key=lambda found: str(found.name)))


@cache
def bettors() -> tuple[Detector, ...]:
    """Return the detectors that bet, by name."""
    return tuple(found for found in detectors() if found.bet is not None)


@cache
def slice_bettors() -> tuple[Detector, ...]:
    """Return the detectors that bet on slices too, by name."""
    return tuple(found for found in bettors() if found.series in SLICED and found.weight)


def page_score(log_es: Mapping[str, float], keys: int = 0) -> float:
    """Return the log e-value that pages: `pager.combine` of the detectors' with their weights.

    `keys` is the number of metadata keys whose slices share the budget.
    """
    return pager.combine(list(log_es.values()), [weight_of(name, keys) for name in log_es])


def weighted(detector: str, log_e: float, keys: int = 0) -> float:
    """Return what a detector's log e-value is worth against the page line: its share of the budget counts.

    >>> round(weighted("similarity", 5.0), 3), weighted("no such detector", 5.0)
    (3.95, -inf)
    >>> round(weighted("similarity", 5.0, keys=1), 3)
    3.727
    """
    return pager.combine([log_e], [weight_of(detector, keys)])


def weight_of(detector: str, keys: int = 0) -> float:
    """Return the share of the page's budget that a detector may spend where `keys` metadata keys make slices.

    >>> slices = [f"channel={number}" for number in range(MOST_VALUES + 1)]
    >>> names = [f"{one.name}[{slice_}]" for one in slice_bettors() for slice_ in slices]
    >>> round(sum(weight_of(name, keys=1) for name in names), 9), weight_of(names[0], keys=0)
    (0.2, 0.0)
    """
    whole, slice_ = split_name(detector)
    own = next((found.weight for found in bettors() if found.name == whole), 0.0)
    if not slice_:
        return own * (1 - SLICE_SHARE) if keys else own
    if not keys:
        return 0.0
    return SLICE_SHARE * own / sum(one.weight for one in slice_bettors()) / (keys * (MOST_VALUES + 1))


def open_wealth(detector: Detector, reference: Reference | SliceReference) -> pager.Wealth:
    """Return the e = 1 with which a detector begins against a reference."""
    assert detector.bet is not None
    strata = reference.of(detector.series)
    if detector.bet == "rate":
        return pager.new_wealth([cells.tolist() for cells in strata.values()], detector.bet)
    held = [int(cells.sum()) for _, cells in sorted(strata.items())] or [0]
    # A stratum with too few rows is one bin: no bet can be lost or won there.
    m = [ranks.gaps(rows, detector.bet) if rows >= MIN_REFERENCE else [rows + 1] for rows in held]
    return pager.new_wealth(m, detector.bet)


def judge_window(
    detector: Detector,
    window: Tally,
    reference: Reference | SliceReference,
    wealth: pager.Wealth | None,
    *,
    minimum: int,
    recent: Tally | None = None,
) -> tuple[Evidence, pager.Wealth | None]:
    """Judge one window and bet on it; a window with fewer than `minimum` values changes nothing.

    `window` counts predictions or, where the detector reads labels or requests, the rows of
    `tallies.read_answers` or `tallies.read_outcomes`. Hand in each row once. `recent` is what the severity is
    about, the window by default. Without a wealth no bet is made.
    """
    shown = (recent or window).of(detector.series)
    there, here = reference.of(detector.series), window.of(detector.series)
    base, current = _matched(there, shown), _total(shown)
    rows = int(_total(here).sum())
    if rows < max(1, minimum) or base.sum() < MIN_REFERENCE or not current.sum():
        detail = {
            "minimum": max(1, minimum),
            "reference_rows": int(base.sum()),
            "reference_minimum": MIN_REFERENCE,
        }
        return Evidence(detector=detector.name, rows=rows, enough=False, detail=detail), wealth
    grown = wealth.update(_counts(detector, window, reference, wealth)) if wealth is not None else None
    own = seed(reference.model, reference.version, detector.name, window.first_seq)
    severity = detector.severity(base, current, sketch=reference.sketch, seed=own)
    evidence = Evidence(
        detector=detector.name,
        rows=rows,
        enough=True,
        effect=severity.effect,
        p_value=severity.p_value,
        log_e=None if grown is None else grown.log_e,
        detail=severity.detail | {"reference_rows": int(base.sum())},
    )
    return evidence, grown


def seed(model: str, version: str, detector: str, first_seq: int) -> int:
    """Return the seed of a window's tie-breaking numbers: the same in every run.

    >>> seed("router", "v1", "similarity", 1) == seed("router", "v1", "similarity", 1)
    True
    """
    name = f"{model}\0{version}\0{detector}\0{first_seq}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def _counts(
    detector: Detector, window: Tally, reference: Reference | SliceReference, wealth: pager.Wealth
) -> ranks.Floats:
    """The window's rows in the wealth's bins, stratum by stratum: [H, K]."""
    there, here = reference.of(detector.series), window.of(detector.series)
    if wealth.bet == "rate":
        return np.stack(list(here.values())).astype(np.float64)
    counts = np.zeros((len(wealth.m), len(wealth.m[0])))
    for number, (stratum, cells) in enumerate(sorted(there.items())):
        m = [gaps for gaps in wealth.m[number] if gaps]
        if stratum not in here or len(m) == 1:
            continue
        key = f"{detector.name}\0{stratum}"
        counts[number, : len(m)] = ranks.place(
            cells,
            here[stratum],
            m,
            reference_seed=seed(reference.model, reference.version, key, -1),
            seed=seed(reference.model, reference.version, key, window.first_seq),
        )
    return counts


def _matched(reference: Mapping[int, Ints], window: Mapping[int, Ints]) -> Ints:
    """Reference rows, of each stratum as many as the window's share of it asks for."""
    if len(reference) <= 1:
        return _total(reference)
    pairs = [(reference[key], int(cells.sum())) for key, cells in window.items() if key in reference]
    pairs = [(cells, rows) for cells, rows in pairs if rows and cells.sum() >= MIN_REFERENCE]
    if not pairs:
        return np.zeros(1, dtype=np.int64)
    times = min(int(cells.sum()) / rows for cells, rows in pairs)
    drawn: Ints = np.rint(sum(cells * (rows * times / cells.sum()) for cells, rows in pairs)).astype(np.int64)
    return drawn


def _total(strata: Mapping[int, Ints]) -> Ints:
    total: Ints = sum(strata.values(), start=np.zeros(1, dtype=np.int64))
    return total
