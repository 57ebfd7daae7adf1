"""How labelled rows came to be labelled, as weights: drawn with a known chance, or by whoever labels.

Drawn rows (`trueup labels next`) need no assumption. Every draw estimates what was not known before it; where
several draws cover a row, each counts in proportion to its rate. Labels that merely arrived are weighted by
strata of P(correct): that is unbiased where, among answers alike in P(correct), being labelled does not
depend on being right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.quality.estimate import Sample
from monitor.windows import Floats, Ints

Bools = npt.NDArray[np.bool_]

STRATA = 10
LABELS_PER_STRATUM = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One call of `labels next`."""

    at: float  # seconds since 1970 UTC
    first_seq: int  # the rows from which it drew, inclusive
    last_seq: int
    rate: float  # rows drawn by rows drawn from


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Rows of a window that an estimate may use, and the rows that they stand for."""

    rows: Ints  # labelled rows in use: [n]
    sample: Sample  # [n], in the same order
    covered: Bools  # rows that the estimate is about: [N]
    answered: float  # share of the drawn rows that came back with a label
    back: int  # how many did


def drawn(
    seq: Ints, labelled_at: Floats, draws: Sequence[Draw], draw: Ints, probability: Floats
) -> Design | None:
    """The design of `labels next`; None without a drawn row that came back.

    `labelled_at` [N] is infinite for rows without a label; `draw` [N] is the place in `draws` of the draw
    that took the row with this `probability` [N], -1 where none did. Rows labelled before a draw are certain
    in it.
    """
    back = (draw >= 0) & np.isfinite(labelled_at)
    if not back.any():
        return None
    rates = np.array([one.rate * ((seq >= one.first_seq) & (seq <= one.last_seq)) for one in draws])
    total = rates.sum(axis=0)
    share = rates / np.where(total > 0, total, 1)  # what each draw says of each row: [draws, N]
    weight, noise = np.zeros(len(seq)), np.zeros(len(seq))
    for number, (one, part) in enumerate(zip(draws, share, strict=True)):
        weight += part * (labelled_at < one.at)
        _count_outstanding(weight, noise, part, back, draw, labelled_at, number=number, at=one.at)
        rows = np.flatnonzero(back & (draw == number) & (labelled_at >= one.at))
        chance = probability[rows] * len(rows) / max(int((draw == number).sum()), 1)
        weight[rows] += part[rows] / chance
        noise[rows] += part[rows] ** 2 * (1 - chance) / chance**2
    used = np.flatnonzero(weight > 0)
    share_back = float(back.sum() / (draw >= 0).sum())
    sample = Sample(rows=int((total > 0).sum()), weight=weight[used], noise=noise[used])
    return Design(rows=used, sample=sample, covered=total > 0, answered=share_back, back=int(back.sum()))


def _count_outstanding(
    weight: Floats,
    noise: Floats,
    part: Floats,
    back: Bools,
    draw: Ints,
    labelled_at: Floats,
    *,
    number: int,
    at: float,
) -> None:
    """Rows that an earlier draw held when this one was made could not be drawn again: they stand for
    themselves, and for those of their draw that never came back. Changes `weight` and `noise` in place.
    """
    for earlier in range(number):
        held = (draw == earlier) & (labelled_at >= at)
        told = held & back
        if told.any():
            answered = told.sum() / held.sum()
            weight[told] += part[told] / answered
            noise[told] += part[told] ** 2 * (1 - answered) / answered**2


def arrived(chance: Floats, labelled: Ints) -> Design:
    """The design of labels that came by themselves: strata of P(correct) [N], each with enough labels.

    `labelled` [n] are row numbers.
    """
    stratum = _strata(chance, labelled)
    there, told = np.bincount(stratum), np.bincount(stratum[labelled])
    probability = (told / there[: len(told)])[stratum[labelled]]
    weight, noise = 1 / probability, (1 - probability) / probability**2
    sample = Sample(rows=len(chance), weight=weight, noise=noise)
    return Design(
        rows=labelled, sample=sample, covered=np.ones(len(chance), dtype=bool), answered=1.0, back=0
    )


def _strata(chance: Floats, labelled: Ints) -> Ints:
    """Quantiles of all rows, neighbours merged until each has its labels: [N]."""
    edges = np.unique(np.quantile(chance, np.arange(1, STRATA) / STRATA))
    fine = np.searchsorted(edges, chance, side="right")
    told = np.bincount(fine[labelled], minlength=len(edges) + 1)
    merged, held = np.zeros(len(told), dtype=np.int64), 0
    for number in range(1, len(told)):
        held += int(told[number - 1])
        full = held >= LABELS_PER_STRATUM and told[number:].sum() >= LABELS_PER_STRATUM
        merged[number] = merged[number - 1] + full
        held = 0 if full else held
    return merged[fine]
