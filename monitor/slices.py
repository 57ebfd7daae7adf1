"""Slices of one window, judged apart from the whole: a change in a tenth of the traffic is large there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporter.sketch import Sketch
from monitor.evidence import Detector, Evidence, Reads, judge_window, open_wealth, slice_bettors
from monitor.pager import Wealth
from monitor.ranks import Bet, Ints
from monitor.reference import SLICE_ROWS, Reference, SliceReference
from monitor.severity import Severity
from monitor.slice_names import in_slice
from monitor.tallies import Tally

MIN_ROWS = 5  # of a slice in one window


@dataclass(frozen=True, slots=True)
class SliceDetector:
    """A detector that reads one slice only."""

    whole: Detector
    slice: str

    @property
    def name(self) -> str:
        return in_slice(self.whole.name, self.slice)

    @property
    def series(self) -> str:
        return self.whole.series

    @property
    def bet(self) -> Bet | None:
        return self.whole.bet

    @property
    def reads(self) -> Reads:
        return self.whole.reads

    @property
    def means_loss(self) -> bool:
        return self.whole.means_loss

    @property
    def weight(self) -> float:
        return self.whole.weight

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:
        return self.whole.severity(reference, current, sketch=sketch, seed=seed)


@dataclass(slots=True)
class JudgedSlices:
    """What a window says of its slices."""

    evidence: list[Evidence] = field(default_factory=list)
    held: dict[str, Wealth] = field(default_factory=dict)  # of the bettors that bet
    grown: list[SliceReference] = field(default_factory=list)  # took the window's rows instead


def slice_detectors(slice_: str) -> Sequence[SliceDetector]:
    """Every detector that bets on a slice, by name."""
    return [SliceDetector(one, slice_) for one in slice_bettors()]


def open_slices(known: Mapping[str, SliceReference]) -> dict[str, Wealth]:
    """e = 1 of every bettor whose slice has a frozen reference."""
    return {
        one.name: open_wealth(one, reference)
        for name, reference in known.items()
        if reference.frozen
        for one in slice_detectors(name)
    }


def judge_slices(
    window: Tally, reference: Reference, known: Mapping[str, SliceReference], held: Mapping[str, Wealth]
) -> JudgedSlices:
    """Judge every slice of the window that has a frozen reference, and let the others' references grow.

    Hand in each row once. A slice that the window does not hold stands still.
    """
    judged = JudgedSlices()
    for name in window.slices:
        own = known.get(name) or _begun(name, reference)
        if not own.frozen:
            own = own.grown(window)
            judged.grown.append(own)
            judged.evidence += _not_yet(own, window)
            continue
        part = _part(window, own)
        for detector in slice_detectors(name):
            one, wealth = judge_window(detector, part, own, held.get(detector.name), minimum=MIN_ROWS)
            judged.evidence.append(one)
            if wealth is not None:
                judged.held[detector.name] = wealth
    return judged


def _begun(name: str, reference: Reference) -> SliceReference:
    return SliceReference(
        model=reference.model,
        version=reference.version,
        slice=name,
        sketch=reference.sketch,
        season=reference.season,
    )


def _part(window: Tally, own: SliceReference) -> Tally:
    strata = window.slices[own.slice]
    return Tally(
        places=own.sketch.slice_places,
        strata=strata,
        rows=_rows(own, strata),
        first_seq=window.first_seq,
        last_seq=window.last_seq,
        start_at=window.start_at,
        end_at=window.end_at,
    )


def _not_yet(own: SliceReference, window: Tally) -> list[Evidence]:
    detail = {"reference_rows": own.rows, "reference_minimum": SLICE_ROWS}
    rows = _rows(own, window.slices[own.slice])
    return [
        Evidence(detector=one.name, rows=rows, enough=False, detail=detail)
        for one in slice_detectors(own.slice)
    ]


def _rows(own: SliceReference, strata: Mapping[int, Ints]) -> int:
    return sum(int(cells[own.sketch.slice_places["label"]].sum()) for cells in strata.values())
