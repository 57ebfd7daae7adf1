"""The lowest rung: a multinomial logistic head on the embeddings of a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
STRENGTH = 3.0  # inverse of the L2 penalty; between 1 and 10 accuracy on new topics hardly moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """logits = embeddings @ weight.T + bias; float32 [labels, hidden] and [labels]."""

    weight: Array
    bias: Array

    def logits(self, embeddings: Array) -> Array:
        """Logits [rows, labels] of unit embeddings [rows, hidden]."""
        return np.asarray(embeddings @ self.weight.T + self.bias)


def fit_head(embeddings: Array, truth: Array, *, classes: int) -> Head:
    """Fit by L-BFGS, deterministically; `truth` [rows] holds each label number at least once."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=STRENGTH, max_iter=2000).fit(embeddings.astype(np.float64), truth)
    weight, bias = fitted.coef_, fitted.intercept_
    if classes == 2:  # one row of weights stands for both classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(weight=weight.astype(np.float32), bias=bias.astype(np.float32))
