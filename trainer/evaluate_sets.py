"""How well a version names sets of labels, on texts that it has not seen.

Each half of the rows is judged by thresholds that were tuned on the other half: those that are sealed have
seen all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.calibrate import cross_fitted, nll
from trainer.evaluate import MIN_ROWS, NOT_ENOUGH, RESAMPLES, Answers, share
from trainer.tasks.multi_label import decode, thresholds

Array = np.ndarray[Any, np.dtype[Any]]
BINS = 10


def figures_of_sets(answers: Answers, *, temperature: float, seed: int) -> dict[str, Any]:
    """The figures of a hold-out, None without rows; `accuracy` is the share of rows whose whole set is right.

    "Scaled" ones are by a temperature that was fitted on the other half of the rows.
    """
    rows = len(answers.truth)
    if not rows:
        names = ("accuracy", "macro_f1", "micro_f1", "hamming_loss", "ece", "nll")
        return {"rows": 0, "temperature": temperature, **dict.fromkeys(names)}
    true, said = answers.truth > 0, said_sets(answers, temperature)
    right = (said == true).all(axis=1)
    plain = decode(answers.logits, 1.0)
    scaled = cross_fitted(answers.logits, answers.truth, seed=seed, decode=decode)
    return {
        "rows": rows,
        "accuracy": share(int(right.sum()), rows),
        "macro_f1": _macro_f1(said, true, seed),
        "micro_f1": _f1(said, true),
        "hamming_loss": float((said != true).mean()),
        "temperature": temperature,
        "ece": {"unscaled": _ece(plain, said, right), "scaled": _ece(scaled, said, right)},
        "nll": {"unscaled": nll(plain, answers.truth), "scaled": nll(scaled, answers.truth)},
    }


def by_label(said: Array, true: Array, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision and recall, each with its interval, and F1 of every label; bool [rows, labels] both.

    >>> said, true = np.array([[True, False], [True, True]]), np.array([[True, False], [False, True]])
    >>> by_label(said, true, ["a", "b"])["a"]["f1"]
    0.6666666666666666
    """
    found = {}
    for place, label in enumerate(labels):
        hits = int((said[:, place] & true[:, place]).sum())
        answered, rows = int(said[:, place].sum()), int(true[:, place].sum())
        found[label] = {
            "rows": rows,
            "precision": share(hits, answered),
            "recall": share(hits, rows),
            "f1": _f1(said[:, place], true[:, place]) if rows else None,
        }
    return found


def said_sets(answers: Answers, temperature: float) -> Array:
    """What each half of the rows is answered by the other half's thresholds: bool [rows, labels]."""
    scores = decode(answers.logits, temperature)
    said = np.zeros(scores.shape, dtype=bool)
    for half in (0, 1):
        tuned = thresholds(scores[1 - half :: 2], answers.truth[1 - half :: 2])
        said[half::2] = scores[half::2] >= np.array(tuned)
    return said


def _macro_f1(said: Array, true: Array, seed: int) -> dict[str, Any]:
    """Mean F1 over the labels with rows, and its 95 % interval by a bootstrap of RESAMPLES."""
    rows = len(true)
    if rows < MIN_ROWS or not true.any():
        return {"rows": rows, "value": None, "note": NOT_ENOUGH}
    draws = np.random.default_rng(seed).integers(rows, size=(RESAMPLES, rows))
    found = [_mean_f1(said[draw], true[draw]) for draw in draws]
    low, high = np.quantile([one for one in found if one is not None], [0.025, 0.975])
    value = _mean_f1(said, true)
    return {"rows": rows, "value": value, "low": float(low), "high": float(high), "seed": seed}


def _mean_f1(said: Array, true: Array) -> float | None:
    rows, answered, hits = true.sum(axis=0), said.sum(axis=0), (said & true).sum(axis=0)
    there = rows > 0
    return float((2 * hits[there] / (rows + answered)[there]).mean()) if there.any() else None


def _f1(said: Array, true: Array) -> float:
    both = int(said.sum() + true.sum())
    return 2 * int((said & true).sum()) / both if both else 0.0


def _ece(scores: Array, said: Array, right: Array) -> float:
    """Mean gap between the probability of the answered set and how often it is right, over BINS bins."""
    sure = np.where(said, scores, 1 - scores).prod(axis=1)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(sure))
