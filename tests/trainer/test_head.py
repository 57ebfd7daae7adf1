"""The logistic head beside scikit-learn's, which minimises the same sum."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from trainer.head import STRENGTH, fit_head


@pytest.mark.parametrize("classes", [2, 5])
def test_the_head_is_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 12))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    truth = np.argmax(rows[:, :classes] + 0.2 * random.normal(size=(400, classes)), axis=1)

    ours = fit_head(rows, truth, classes=classes)

    theirs = LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=5000).fit(rows, truth)
    assert np.allclose(_softmax(ours.logits(rows)), theirs.predict_proba(rows), atol=2e-3)


def _softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))
