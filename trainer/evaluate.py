"""How well a version answers texts that it has not seen: figures with intervals, whole and in parts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.calibrate import cross_fitted, ece, nll
from trainer.tasks.classification import decode

Array = np.ndarray[Any, np.dtype[Any]]
MIN_ROWS = 20  # with fewer an accuracy says nothing
RESAMPLES = 400  # of the bootstrap
Z = 1.959963984540054  # two-sided 95 %
NOT_ENOUGH = "not enough data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a version said of labelled texts: logits [rows, labels], truth [rows] label numbers.

    Where any number of labels is right, truth is [rows, labels] of 0 and 1; a label is answered whose logit
    reaches its bar.
    """

    logits: Array
    truth: Array
    slices: Sequence[Sequence[str]]  # of each row
    bars: Array | None = None  # [labels], of sets

    @property
    def right(self) -> Array:
        """[rows] whether the answer was the truth."""
        return right_of(self.logits, self.truth, self.bars)

    def at(self, places: Sequence[int]) -> Answers:
        """The same of some of the rows."""
        chosen = np.asarray(places, dtype=np.int64)
        slices = [self.slices[place] for place in places]
        return Answers(logits=self.logits[chosen], truth=self.truth[chosen], slices=slices, bars=self.bars)


def right_of(logits: Array, truth: Array, bars: Array | None) -> Array:
    """[rows] whether the label of the largest logit, or with `bars` the set above them, is the truth.

    >>> right_of(np.array([[2.0, 1.0]]), np.array([[1, 1]]), np.array([0.0, 1.5]))
    array([False])
    """
    if bars is None:
        return np.asarray(logits.argmax(axis=1) == truth)
    return np.asarray(((logits >= bars) == truth).all(axis=1))


def figures(answers: Answers, *, temperature: float, seed: int) -> dict[str, Any]:
    """The figures of a hold-out, None without rows.

    "Scaled" ones are by a temperature that was fitted on the other half of the rows.
    """
    rows = len(answers.truth)
    if not rows:
        return {
            "rows": 0,
            "temperature": temperature,
            **dict.fromkeys(("accuracy", "macro_f1", "ece", "nll")),
        }
    plain, scaled = decode(answers.logits, 1.0), cross_fitted(answers.logits, answers.truth, seed=seed)
    return {
        "rows": rows,
        "accuracy": share(int(answers.right.sum()), rows),
        "macro_f1": macro_f1(answers.logits.argmax(axis=1), answers.truth, seed=seed),
        "temperature": temperature,
        "ece": {"unscaled": ece(plain, answers.truth), "scaled": ece(scaled, answers.truth)},
        "nll": {"unscaled": nll(plain, answers.truth), "scaled": nll(scaled, answers.truth)},
    }


def by_class(answers: Answers, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision and recall, each with its interval, and F1 of every class.

    >>> answers = Answers(logits=np.eye(2)[[0, 0, 1]], truth=np.array([0, 1, 1]), slices=[()] * 3)
    >>> by_class(answers, ["a", "b"])["b"]["f1"]
    0.6666666666666666
    """
    said = answers.logits.argmax(axis=1)
    found = {}
    for number, label in enumerate(labels):
        hits = int(((said == number) & (answers.truth == number)).sum())
        answered, rows = int((said == number).sum()), int((answers.truth == number).sum())
        f1 = 2 * hits / (answered + rows) if rows else None
        found[label] = {
            "rows": rows,
            "precision": share(hits, answered),
            "recall": share(hits, rows),
            "f1": f1,
        }
    return found


def by_slice(answers: Answers) -> dict[str, dict[str, Any]]:
    """Accuracy of every slice, largest first."""
    right: dict[str, list[bool]] = defaultdict(list)
    for names, hit in zip(answers.slices, answers.right.tolist(), strict=True):
        for name in names:
            right[name].append(hit)
    largest = sorted(right, key=lambda name: (-len(right[name]), name))
    return {name: share(sum(right[name]), len(right[name])) for name in largest}


def share(right: int, rows: int) -> dict[str, Any]:
    """`right` of `rows` with its 95 % interval (Wilson 1927); NOT_ENOUGH instead below MIN_ROWS.

    >>> share(45, 50)
    {'rows': 50, 'value': 0.9, 'low': 0.7863..., 'high': 0.9565...}
    >>> share(3, 4)
    {'rows': 4, 'value': None, 'note': 'not enough data'}
    """
    if rows < MIN_ROWS:
        return {"rows": rows, "value": None, "note": NOT_ENOUGH}
    p = right / rows
    centre = p + Z**2 / (2 * rows)
    spread = Z * math.sqrt(p * (1 - p) / rows + Z**2 / (4 * rows**2))
    scale = 1 + Z**2 / rows
    return {"rows": rows, "value": p, "low": (centre - spread) / scale, "high": (centre + spread) / scale}


def macro_f1(said: Array, truth: Array, *, seed: int) -> dict[str, Any]:
    """Mean F1 over the classes with rows, and its 95 % interval by a bootstrap of RESAMPLES (Efron 1979).

    >>> macro_f1(np.tile([0, 1], 20), np.tile([0, 1], 20), seed=0)["low"]
    1.0
    """
    rows = len(truth)
    if rows < MIN_ROWS:
        return {"rows": rows, "value": None, "note": NOT_ENOUGH}
    draws = np.random.default_rng(seed).integers(rows, size=(RESAMPLES, rows))
    low, high = np.quantile([_macro_f1(said[draw], truth[draw]) for draw in draws], [0.025, 0.975])
    return {
        "rows": rows,
        "value": _macro_f1(said, truth),
        "low": float(low),
        "high": float(high),
        "seed": seed,
    }


def _macro_f1(said: Array, truth: Array) -> float:
    labels = int(max(said.max(), truth.max())) + 1
    hits = np.bincount(truth[said == truth], minlength=labels)
    rows, answered = np.bincount(truth, minlength=labels), np.bincount(said, minlength=labels)
    there = rows > 0
    return float((2 * hits[there] / (rows + answered)[there]).mean())


def compared(before: Array, now: Array) -> dict[str, Any]:
    """What was lost, in points, between right answers [rows] to the same texts before and now.

    The 95 % interval is Wald's with a row added to each of the two cells that differ (Agresti and Min 2005).

    >>> compared(np.ones(50, dtype=bool), np.arange(50) > 0)["lost_points"]
    2.0
    """
    rows = len(before)
    if rows < MIN_ROWS:
        return {"rows": rows, "lost_points": None, "note": NOT_ENOUGH}
    lost, won = int((before & ~now).sum()), int((~before & now).sum())
    total, apart = rows + 2, (lost - won) / (rows + 2)
    spread = Z * math.sqrt(max(0.0, (lost + won + 2) - (lost - won) ** 2 / total)) / total
    return {
        "rows": rows,
        "before": float(before.mean()),
        "now": float(now.mean()),
        "lost_points": 100 * (lost - won) / rows,
        "low": 100 * (apart - spread),
        "high": 100 * (apart + spread),
    }
