"""What is told of a fit: its figures, and whether it learnt its rows by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Facts = dict[str, Any]


def figures(right: Array, loss: float) -> Facts:
    """Accuracy, loss in nats and number of rows.

    >>> figures(np.array([True, False]), 0.51239)
    {'accuracy': 0.5, 'loss': 0.5124, 'rows': 2}
    """
    return {"accuracy": round(float(right.mean()), 4), "loss": round(loss, 4), "rows": len(right)}


def with_gap(report: Facts, holdout: float | None) -> Facts:
    """The report with its overfitting line: accuracy on rows learnt from, validation rows and the hold-out.

    >>> with_gap({"train": {"accuracy": 0.99}, "validation": {"accuracy": 0.91}}, 0.9)["overfitting"]
    'train 99.0 %, validation 91.0 %, hold-out 90.0 %: gap 9.0 points'
    """
    seen = {"train": report["train"]["accuracy"]}
    if "validation" in report:
        seen["validation"] = report["validation"]["accuracy"]
    if holdout is not None:
        seen["hold-out"] = holdout
    line = ", ".join(f"{name} {100 * value:.1f} %" for name, value in seen.items())
    if len(seen) == 1:
        return report | {"gap": None, "overfitting": f"{line}: not enough data for a gap"}
    gap = round(seen["train"] - list(seen.values())[-1], 4)
    return report | {"gap": gap, "overfitting": f"{line}: gap {100 * gap:.1f} points"}
