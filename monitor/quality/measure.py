"""Quality of a version over a range of rows: accuracy and macro-F1 with intervals, overall and by slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from sqlalchemy import Engine

from monitor.quality.correctness import Labelled, Served, cross_fitted
from monitor.quality.design import Design, arrived, drawn
from monitor.quality.estimate import proportion
from monitor.quality.interval import interval
from monitor.quality.macro_f1 import MacroF1, macro_f1
from monitor.quality.reading import Known, Rows, read_earlier, read_known, read_rows
from monitor.quality.slices import SliceQuality, measure_slices

ALPHA = 0.05
MIN_LABELS = 20

_METHOD = "prediction-powered, asymptotic confidence sequence (beta mixture on the clock of the labels)"
_DRAWN = "Rests on drawn labels of known probability: no assumption on who labels."
_SOME_BACK = " {:.0%} of the drawn rows came back: assumes that the others are right as often."
_ARRIVED = (
    "Rests on labels that arrived: assumes that, among answers of like P(correct), "
    "being labelled does not depend on being right."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """JSON-able by `dataclasses.asdict`; the accuracy is that of the `rows` served rows themselves.

    The interval covers it with probability 1 - alpha at every number of labels. With `state` "not enough
    data" there is no number below.
    """

    model: str
    version: str
    state: Literal["ok", "not enough data"]
    first_seq: int | None
    last_seq: int | None
    rows: int  # that the figures are about
    labels: int  # that the figures rest on
    alpha: float
    basis: Literal["drawn", "arrived"] | None = None
    assumption: str | None = None
    method: str = _METHOD
    accuracy: float | None = None
    lower: float | None = None
    upper: float | None = None
    effective_labels: float | None = None  # plain uniform labels that tell as much; None: all rows are known
    labels_only: tuple[float, float] | None = None  # the same interval without predictions
    macro_f1: MacroF1 | None = None  # None: too few labels for its classes
    slices: tuple[SliceQuality, ...] = ()  # Bonferroni: all of their intervals hold together


def read_quality(
    db: Engine,
    model: str,
    version: str,
    *,
    since_seq: int = 0,
    until_seq: int | None = None,
    alpha: float = ALPHA,
    min_labels: int = MIN_LABELS,
) -> Quality:
    """Measure the rows with since_seq < predictions.seq <= until_seq (None: the newest).

    Drawn labels are used alone where there are `min_labels` of them, else every label that arrived. Labels of
    earlier rows count for nothing but teach what is likely right. Raises UnknownModelVersionError.
    """
    rows = read_rows(db, model, version, since_seq=since_seq, until_seq=until_seq)
    known, earlier = read_known(db, model, version), read_earlier(db, model, version, until_seq=since_seq)
    return measure(rows, known, model, version, earlier=earlier, alpha=alpha, min_labels=min_labels)


def measure(
    rows: Rows,
    known: Known,
    model: str,
    version: str,
    *,
    earlier: Rows,
    alpha: float = ALPHA,
    min_labels: int = MIN_LABELS,
) -> Quality:
    """`read_quality` without a database; `earlier` are labelled rows from before."""
    every, told = rows, rows.told()
    taught = earlier.served, earlier.labelled(earlier.told())
    blank = Quality(
        model=model,
        version=version,
        state="not enough data",
        first_seq=int(rows.seq[0]) if len(rows) else None,
        last_seq=int(rows.seq[-1]) if len(rows) else None,
        rows=len(rows),
        labels=len(told),
        alpha=alpha,
    )
    found = _drawn(rows)
    if found is not None and not found.covered.all():
        rows = rows.only(found.covered)
        found = _drawn(rows)
    if found is not None and found.back >= max(min_labels, 2):
        note = _SOME_BACK.format(found.answered) if found.answered < 1 else ""
        return _measured(replace(blank, basis="drawn", assumption=_DRAWN + note), rows, known, found, taught)
    if len(told) < max(min_labels, 2):
        return blank
    found = arrived(known.curve(every.served.score, every.served.similarity), told)
    return _measured(replace(blank, basis="arrived", assumption=_ARRIVED), every, known, found, taught)


def _drawn(rows: Rows) -> Design | None:
    return drawn(rows.seq, rows.labelled_at, rows.draws, rows.draw, rows.probability)


def _measured(
    blank: Quality, rows: Rows, known: Known, design: Design, earlier: tuple[Served, Labelled]
) -> Quality:
    sample, alpha = design.sample, blank.alpha
    labelled = rows.labelled(design.rows)
    chance = cross_fitted(known.curve, rows.served, labelled, earlier)
    found = proportion(labelled.correct, chance[labelled.rows], float(chance.mean()), sample)
    alone = proportion(labelled.correct, None, 0.0, sample)
    lower, upper = interval(found.mean, found.effective, alpha, labels=len(sample))
    return replace(
        blank,
        state="ok",
        rows=len(rows),
        labels=len(sample),
        accuracy=found.mean,
        lower=lower,
        upper=upper,
        effective_labels=found.effective if np.isfinite(found.effective) else None,
        labels_only=interval(alone.mean, alone.effective, alpha, labels=len(sample)),
        macro_f1=macro_f1(rows.served, labelled, chance, known.confused, sample, alpha),
        slices=measure_slices(rows.metadata, labelled, chance, sample, alpha),
    )
