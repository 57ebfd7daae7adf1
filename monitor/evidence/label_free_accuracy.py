"""Accuracy without labels: the reference's accuracy at each confidence, averaged over the window.

It is what accuracy would be if answers of one confidence were right as often as before: a change of the texts
moves it, changed labels do not. Right answers are smoothed over neighbouring cells. Its e-value is that of
confidence, and the page's budget is spent there only. Source: the confidence-based estimators of Garg et al.
(arXiv 2201.04234) and NannyML's CBPE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exporter.sketch import Sketch
from monitor.ranks import Bet, Floats, Ints
from monitor.severity import Severity, mean_severity

_NEIGHBOURS = (0.25, 0.5, 1.0, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class LabelFreeAccuracy:
    name: str = "label_free_accuracy"
    series: str = "confidence"
    bet: Bet | None = "down"
    reads: Literal["predictions", "labels"] = "predictions"
    means_loss: bool = True
    weight: float = 0.0

    def severity(self, reference: Ints, current: Ints, *, sketch: Sketch, seed: int) -> Severity:  # noqa: ARG002
        return mean_severity(reference, current, accuracy_by_cell(sketch.right, sketch.wrong))


def accuracy_by_cell(right: Ints, wrong: Ints) -> Floats:
    """Share of right answers in each cell of confidence, leaning on the neighbours and on the mean: [cells].

    >>> accuracy_by_cell(np.array([0, 0, 8, 8]), np.array([4, 4, 0, 0])).round(2).tolist()
    [0.3, 0.51, 0.79, 0.9]
    """
    kept = [
        np.convolve(counts, _NEIGHBOURS)[len(_NEIGHBOURS) // 2 :][: right.size] for counts in (right, wrong)
    ]
    mean = right.sum() / max(1, right.sum() + wrong.sum())
    shares: Floats = (kept[0] + mean) / (kept[0] + kept[1] + 1)
    return shares


detector = LabelFreeAccuracy()
