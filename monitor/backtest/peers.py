"""What the loop is measured against: an oracle that knows every label at once and always retrains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor.backtest.answers import Floats
from monitor.backtest.past import Event


class Oracle:
    """Retrains its head at every window on every label so far, none delayed or missing: an upper mark.

    A multinomial logistic head (L2, C = 10) on the first version's embeddings. What it says depends on the
    history alone, so runs over the same history share it.
    """

    def __init__(self, embedded: Floats, events: Sequence[Event], *, seed: int) -> None:
        self._rows, self._truth = [embedded], [event.label for event in events]
        self._seed = seed
        self._told: list[float] = []

    def accuracy(self, number: int, embedded: Floats, events: Sequence[Event]) -> float:
        """Answer window `number` (from 0, in order) with what was known before it, then learn it."""
        if number < len(self._told):
            return self._told[number]
        answered = self._fit().predict(embedded)
        self._rows.append(embedded)
        self._truth += [event.label for event in events]
        self._told.append(
            float(np.mean([one == event.label for one, event in zip(answered, events, strict=True)]))
        )
        return self._told[number]

    def _fit(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=10.0, max_iter=300, random_state=self._seed)
        return model.fit(np.concatenate(self._rows), self._truth)
