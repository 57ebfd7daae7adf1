"""What the loop is measured against: a model that is never retrained, and one that always is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.engines import Answer, Engine
from monitor.backtest.past import Event


def embeddings(answers: Sequence[Answer]) -> npt.NDArray[np.float32]:
    """Pooled embeddings of answers: [n, hidden], unit rows."""
    return np.stack([np.frombuffer(one.embedding, dtype="<f2") for one in answers]).astype(np.float32)


def share_right(engine: Engine, answers: Sequence[Answer], events: Sequence[Event]) -> float:
    """Accuracy of `answers` to `events`."""
    right = [
        engine.labels[one.label_index] == event.label for one, event in zip(answers, events, strict=True)
    ]
    return float(np.mean(right))


class Oracle:
    """Retrains its head at every window on every label so far, none delayed or missing: an upper mark.

    A multinomial logistic head (L2, C = 10) on the first version's embeddings.
    """

    def __init__(self, embedded: npt.NDArray[np.float32], events: Sequence[Event], *, seed: int) -> None:
        self._rows, self._truth = [embedded], [event.label for event in events]
        self._seed = seed

    def accuracy(self, embedded: npt.NDArray[np.float32], events: Sequence[Event]) -> float:
        """Answer a window with what was known before it, then learn it."""
        answered = self._fit().predict(embedded)
        self._rows.append(embedded)
        self._truth += [event.label for event in events]
        return float(np.mean([one == event.label for one, event in zip(answered, events, strict=True)]))

    def _fit(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=10.0, max_iter=300, random_state=self._seed)
        return model.fit(np.concatenate(self._rows), self._truth)
