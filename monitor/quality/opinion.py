"""A second opinion: how the version would answer had it also seen the labels of this window.

Its head is moved on the served embeddings by ridge multinomial regression that starts from the served scores.
The probability that this gives to the served answer knows more about right and wrong than the score does: on
changed traffic the score is often as high for wrong answers (README: prediction-powered intervals).
"""

from __future__ import annotations

import numpy as np

from monitor.windows import Floats, Ints

_SMALL = 1e-4  # scores below are not told apart
_RIDGE = 0.05  # over unit embeddings: ten labels turn a head, one does not
_STEPS = 60


def opinion(
    scores: Floats, embedding: Floats, answered: Ints, seen: Ints, truth: Ints, ridge: float = _RIDGE
) -> Floats:
    """Probability of each served answer, by a head moved by the labels of the rows `seen`: [N].

    `scores` [N, C], `embedding` [N, D], `answered` [N] label numbers (-1: outside the labels), `seen` [n] row
    numbers, `truth` [n] label numbers, -1 for a class that the version does not have (it teaches nothing).
    """
    logits = np.log(np.maximum(scores, _SMALL))
    known = truth >= 0
    if not known.any():
        return _of_answer(logits, answered)
    rows = seen[known]
    weights = _fit(logits[rows], embedding[rows], truth[known], ridge)
    return _of_answer(logits + embedding @ weights, answered)


def _of_answer(logits: Floats, answered: Ints) -> Floats:
    chance = _softmax(logits)
    return np.where(answered >= 0, chance[np.arange(len(chance)), np.maximum(answered, 0)], 0.0)


def _fit(offset: Floats, embedding: Floats, truth: Ints, ridge: float) -> Floats:
    """Weights [D, C] of least ridge loss, by L-BFGS."""
    from scipy.optimize import minimize  # noqa: PLC0415 - half a second to import

    shape = embedding.shape[1], offset.shape[1]
    wanted = np.eye(shape[1])[truth]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logits = offset + embedding @ weights
        peak = logits.max(axis=1)
        total = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
        slope = embedding.T @ (np.exp(logits - total[:, None]) - wanted) + ridge * weights
        return float((total - (logits * wanted).sum(axis=1)).sum() + ridge * flat @ flat / 2), slope.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x, dtype=np.float64).reshape(shape)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
