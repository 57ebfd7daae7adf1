"""Macro-F1 with an interval: the delta method over the prediction-powered estimate.

F1 of a class is 2 hits / (answered + true). How often a class was answered is known; hits and true rows are
estimated. What one more row (answer, truth) adds to the mean of the F1s is its influence, and the mean of the
influences is estimated as an accuracy is. Source: van der Vaart (1998), chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.quality.correctness import Labelled, Served
from monitor.quality.estimate import Sample, doubted, estimate
from monitor.quality.interval import interval
from monitor.windows import Floats, Ints

LABELS_PER_CLASS = 8  # the delta method is no good with fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroF1:
    value: float
    lower: float
    upper: float
    classes: int  # of the version's classes, those that occur


def confusion(answered: Ints, truth: Ints, classes: int) -> Floats:
    """Share of each true class among wrong answers of a class, with one row of belief in every class: [C, C].

    >>> confusion(np.array([0, 0, 0]), np.array([1, 1, 0]), 3).round(2).tolist()[0]
    [0.0, 0.83, 0.17]
    """
    wrong = (answered != truth) & (answered >= 0) & (truth >= 0)
    counts = np.full((classes, classes), 1 / max(classes - 1, 1))
    np.add.at(counts, (answered[wrong], truth[wrong]), 1.0)
    np.fill_diagonal(counts, 0.0)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12))


def macro_f1(
    served: Served, labelled: Labelled, chance: Floats, confused: Floats, sample: Sample, alpha: float
) -> MacroF1 | None:
    """None where there are fewer than `LABELS_PER_CLASS` labels for each class that occurs.

    `chance` [N] is P(correct), `confused` [C, C] what `confusion` returned.
    """
    share = sample.weight / sample.weight.sum()
    answered, hits, true = _totals(served, labelled, chance, confused, share)
    occurs = true > 0.5
    classes = int(occurs.sum())
    if classes == 0 or len(labelled.rows) < LABELS_PER_CLASS * classes:
        return None
    whole = np.maximum(answered + true, 1.0)
    f1 = np.where(occurs, np.clip(2 * hits / whole, 0, 1), 0.0)
    value = float(f1.sum() / classes)
    influence = _influence(f1, whole, occurs, len(served))
    predicted = _expected(influence, np.maximum(served.answered, 0), chance, confused)
    told = np.where(
        labelled.truth >= 0, influence[served.answered[labelled.rows], np.maximum(labelled.truth, 0)], 0.0
    )
    found = estimate(told, predicted[labelled.rows], float(predicted.mean()), sample)
    effective = doubted(value, found.variance, sample)
    lower, upper = interval(value, effective, alpha, labels=len(sample))
    return MacroF1(value=value, lower=lower, upper=upper, classes=classes)


def _totals(
    served: Served, labelled: Labelled, chance: Floats, confused: Floats, share: Floats
) -> tuple[Floats, Floats, Floats]:
    """Rows answered, hits and true rows of each class: [C] each."""
    rows, classes = labelled.rows, len(confused)
    answer = np.eye(classes)[np.maximum(served.answered, 0)] * (served.answered >= 0)[:, None]
    likely_true = answer * chance[:, None] + confused[np.maximum(served.answered, 0)] * (1 - chance)[:, None]
    likely_hit = answer * chance[:, None]
    true = np.eye(classes)[np.maximum(labelled.truth, 0)] * (labelled.truth >= 0)[:, None]
    hit = answer[rows] * true
    estimated = [
        len(served) * (likely.mean(axis=0) + share @ (told - likely[rows]))
        for likely, told in ((likely_hit, hit), (likely_true, true))
    ]
    hits, trues = (np.maximum(total, 0.0) for total in estimated)
    return answer.sum(axis=0), hits, np.maximum(trues, hits)


def _influence(f1: Floats, whole: Floats, occurs: np.ndarray, rows: int) -> Floats:
    """What a row of (answer, truth) adds to macro-F1, times the rows: [C, C]."""
    classes = occurs.sum()
    every = np.tile(np.where(occurs, -f1 / whole, 0.0), (len(f1), 1))
    return np.asarray((every + np.diag(np.where(occurs, 2 / whole, 0.0))) * rows / classes)


def _expected(influence: Floats, answered: Ints, chance: Floats, confused: Floats) -> Floats:
    wrong = (confused * influence).sum(axis=1)
    return np.asarray(chance * influence[answered, answered] + (1 - chance) * wrong[answered])
