"""How well a version answers texts that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.calibrate import ece, nll

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate(scores: Array, truth: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Figures for probabilities [rows, labels] against label numbers [rows]; None where there are no rows.

    >>> evaluate(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), ["a", "b"])["accuracy"]
    0.5
    """
    if not len(truth):
        return {"rows": 0, "accuracy": None}
    answer = scores.argmax(axis=1)
    per_class = {label: _class(answer, truth, number) for number, label in enumerate(labels)}
    seen = [figures["f1"] for figures in per_class.values() if figures["rows"]]
    return {
        "rows": len(truth),
        "accuracy": float((answer == truth).mean()),
        "macro_f1": float(np.mean(seen)),
        "nll": nll(scores, truth),
        "ece": ece(scores, truth),
        "per_class": per_class,
    }


def _class(answer: Array, truth: Array, number: int) -> dict[str, Any]:
    hits = int(((answer == number) & (truth == number)).sum())
    answered, rows = int((answer == number).sum()), int((truth == number).sum())
    return {
        "rows": rows,
        "precision": hits / answered if answered else 0.0,
        "recall": hits / rows if rows else 0.0,
        "f1": 2 * hits / (answered + rows) if answered + rows else 0.0,
    }
