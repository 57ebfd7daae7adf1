"""Evidence: what each detector says about one window, each detector in a file of its own.

A detector is any module of this package with a `detector` in it; it is found by walking the package.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from monitor import pager, ranks
from monitor.severity import Severity
from monitor.windows import Floats, Window

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
    def bet(self) -> ranks.Bet: ...
    @property
    def reads(self) -> Literal["predictions", "labels"]: ...
    @property
    def means_loss(self) -> bool: ...

    def values(self, window: Window) -> Floats:
        """Return one number a row, NaN where there is none: [n]. Must not depend on other rows."""

    def severity(self, reference: Floats, current: Floats, *, seed: int) -> Severity:
        """Compare two samples without NaN, each with at least one row."""


@cache
def detectors() -> tuple[Detector, ...]:
    """Return every detector of the package, by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.detector for module in modules), key=lambda found: str(found.name)))


def open_wealth(detector: Detector, reference: Window) -> pager.Wealth:
    """Return the e = 1 with which a detector begins against a reference."""
    known = _known(detector.values(reference))
    return pager.new_wealth(ranks.gaps(known.size, detector.bet), detector.bet)


def judge_window(
    detector: Detector, window: Window, reference: Window, wealth: pager.Wealth, *, minimum: int
) -> tuple[Evidence, pager.Wealth]:
    """Judge one window and bet on it; a window with fewer than `minimum` values changes nothing.

    `window` holds predictions or, where the detector reads labels, `read_labelled`'s rows. Hand in each row
    once.
    """
    current, base = _known(detector.values(window)), _known(detector.values(reference))
    if current.size < max(1, minimum) or base.size < MIN_REFERENCE:
        detail = {
            "minimum": max(1, minimum),
            "reference_rows": int(base.size),
            "reference_minimum": MIN_REFERENCE,
        }
        return Evidence(detector=detector.name, rows=int(current.size), enough=False, detail=detail), wealth
    own = seed(window.model, window.version, detector.name, window.first_seq)
    counts = ranks.count(
        base,
        current,
        wealth.m,
        seed=own,
        reference_seed=seed(window.model, window.version, detector.name, -1),
    )
    grown = wealth.update(counts)
    severity = detector.severity(base, current, seed=own)
    evidence = Evidence(
        detector=detector.name,
        rows=int(current.size),
        enough=True,
        effect=severity.effect,
        p_value=severity.p_value,
        log_e=grown.log_e,
        detail={**severity.detail, "reference_rows": int(base.size)},
    )
    return evidence, grown


def seed(model: str, version: str, detector: str, first_seq: int) -> int:
    """Return the seed of a window's tie-breaking numbers: the same in every run.

    >>> seed("router", "v1", "similarity", 1) == seed("router", "v1", "similarity", 1)
    True
    """
    name = f"{model}\0{version}\0{detector}\0{first_seq}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def _known(values: Floats) -> npt.NDArray[np.float64]:
    return values[np.isfinite(values)]
