"""The same measurement within each value of the client's metadata that has labels enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.quality.correctness import Labelled
from monitor.quality.estimate import Sample, proportion
from monitor.quality.interval import interval
from monitor.windows import Floats, Ints

SLICE_LABELS = 20
MOST_SLICES = 50  # those with the most labels; more would widen every interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceQuality:
    """Accuracy of the rows whose metadata has this value; the interval is corrected for the other slices."""

    key: str
    value: str
    rows: int
    labels: int
    accuracy: float
    lower: float
    upper: float


def measure_slices(
    metadata: Sequence[Mapping[str, Any]],
    labelled: Labelled,
    chance: Floats,
    sample: Sample,
    alpha: float,
    min_labels: int = SLICE_LABELS,
) -> tuple[SliceQuality, ...]:
    """Slices of `metadata` [N] with `min_labels` labels, most labels first.

    `chance` [N] is P(correct); alpha is divided by their number (Bonferroni), which truth does not decide.
    """
    place = np.full(len(chance), -1)
    place[labelled.rows] = np.arange(len(labelled.rows))
    chosen = []
    for (key, value), members in _members(metadata).items():
        told = place[members][place[members] >= 0]
        unseen = len(told) < len(members) and not sample.noise[told].any()  # nothing speaks for the others
        if len(told) >= min_labels and len(members) < len(chance) and not unseen:
            chosen.append((key, value, members, told))
    chosen.sort(key=lambda one: (-len(one[3]), one[0], one[1]))
    kept = chosen[:MOST_SLICES]
    return tuple(_slice(*one, labelled, chance, sample, alpha / len(kept)) for one in kept)


def _slice(
    key: str,
    value: str,
    members: Ints,
    told: Ints,
    labelled: Labelled,
    chance: Floats,
    sample: Sample,
    alpha: float,
) -> SliceQuality:
    part = Sample(rows=len(members), weight=sample.weight[told], noise=sample.noise[told])
    rows = labelled.rows[told]
    found = proportion(labelled.correct[told], chance[rows], float(chance[members].mean()), part)
    lower, upper = interval(found.mean, found.effective, alpha, labels=len(told))
    return SliceQuality(
        key=key,
        value=value,
        rows=len(members),
        labels=len(told),
        accuracy=found.mean,
        lower=lower,
        upper=upper,
    )


def _members(metadata: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Ints]:
    """Row numbers by (key, value); a real number is no slice."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, fields in enumerate(metadata):
        for key, value in fields.items():
            if value is not None and not isinstance(value, float):
                found[key, str(value)].append(row)
    return {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}
