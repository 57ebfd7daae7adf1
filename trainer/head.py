"""The lowest rung: a multinomial logistic head on the embeddings of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
STRENGTH = 10.0  # inverse of the L2 penalty where nothing says better (trainer/penalty.py)
ALONE = 1.0  # penalty of a class that an anchored head does not know, where no old row holds it back
TOLERANCE = 1e-4  # largest slope, per row, at which the fit ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """logits = embeddings @ weight.T + bias; float32 [labels, hidden] and [labels]."""

    weight: Array
    bias: Array

    def logits(self, embeddings: Array) -> Array:
        """Logits [rows, labels] of unit embeddings [rows, hidden]."""
        return np.asarray(embeddings @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A head not to stray from: `penalty` [labels] on the squared distance of each row of its weights."""

    head: Head
    penalty: Array


def anchored(
    parent: Head, known: Sequence[str], labels: Sequence[str], strength: float, *, replayed: bool
) -> Anchor:
    """The parent's head over `labels`; one that it does not know starts at zero and its mean bias.

    `replayed`: old rows are learnt again beside the new ones.

    >>> parent = Head(weight=np.eye(2, dtype=np.float32), bias=np.array([1.0, 3.0], dtype=np.float32))
    >>> found = anchored(parent, ["a", "c"], ["a", "b", "c"], 2.0, replayed=False)
    >>> found.head.bias.tolist(), found.penalty.tolist()
    ([1.0, 2.0, 3.0], [2.0, 1.0, 2.0])
    """
    place = {label: number for number, label in enumerate(known)}
    weight = np.zeros((len(labels), parent.weight.shape[1]), dtype=np.float32)
    bias = np.full(len(labels), parent.bias.mean(), dtype=np.float32)
    penalty = np.full(len(labels), 1 / STRENGTH if replayed else ALONE)
    for number, label in enumerate(labels):
        if label in place:
            weight[number], bias[number] = parent.weight[place[label]], parent.bias[place[label]]
            penalty[number] = strength
    return Anchor(head=Head(weight=weight, bias=bias), penalty=penalty)


def fit_head(
    embeddings: Array,
    truth: Array,
    *,
    classes: int,
    weights: Array | None = None,
    anchor: Anchor | None = None,
    strength: float = STRENGTH,
    tolerance: float = TOLERANCE,
) -> Head:
    """Fit by L-BFGS, deterministically; truth: [rows] label numbers, or [rows, classes] of 0 and 1,
    each label with a logistic head of its own; weights: [rows], 1 where not given; strength: inverse of the
    penalty of a head that is not anchored; tolerance: largest slope, per row, at which the fit ends.

    Minimises the summed cross-entropy and half the weighted squared distance to zero or, anchored, to the
    anchor (L2-SP: Li, Grandvalet, Davoine 2018, arXiv:1802.01483). An anchored head keeps the anchor's
    biases: with none of the old rows left, a free bias would switch their classes off.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - a tenth of a second to import
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - looks at the libraries that are loaded

    rows = np.asarray(embeddings, dtype=np.float32)
    loss = _Loss(
        rows=rows,
        truth=truth.astype(np.float32) if truth.ndim == 2 else np.eye(classes, dtype=np.float32)[truth],
        sets=truth.ndim == 2,
        weights=np.ones(len(rows), dtype=np.float32) if weights is None else weights.astype(np.float32),
        centre=np.zeros((classes, rows.shape[1]))
        if anchor is None
        else anchor.head.weight.astype(np.float64),
        penalty=np.full((classes, 1), _penalty(truth, classes, strength))
        if anchor is None
        else anchor.penalty[:, None],
        bias=None if anchor is None else anchor.head.bias,
    )
    with threadpool_limits(
        1, user_api="blas"
    ):  # two threads took 1.0 s where one took 0.4: they wait, spinning
        found = minimize(
            loss, loss.first(), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": tolerance}
        )
    head = loss.head(found.x)
    return _undivided(head, truth) if truth.ndim == 2 and anchor is None else head


def losses(head: Head, embeddings: Array, truth: Array, heat: float = 1.0) -> Array:
    """Cross-entropy of each row, in nats, of logits divided by `heat`; truth as in `fit_head`."""
    logits = head.logits(embeddings) / np.float32(heat)
    if truth.ndim == 2:
        own, _ = _of_sets(logits, truth.astype(np.float32))
    else:
        own, _ = _of_one(logits, np.eye(len(head.bias), dtype=np.float32)[truth])
    return -own.astype(np.float64)


def _penalty(truth: Array, classes: int, strength: float) -> float:
    """Of each row of weights; of two exclusive labels both rows hold half of one direction, so each
    counts twice: the head is then the one of a binary logistic regression, whose penalty is on the whole.
    """
    return (2 if classes == 2 and truth.ndim == 1 else 1) / strength


def _undivided(head: Head, truth: Array) -> Head:
    """A label that all rows have, or none, gets the log-odds of Laplace's rule of succession."""
    rows, found = len(truth), truth.sum(axis=0)
    divided = (found > 0) & (found < rows)
    odds = np.log((found + 1) / (rows - found + 1))
    return Head(
        weight=np.where(divided[:, None], head.weight, 0).astype(np.float32),
        bias=np.where(divided, head.bias, odds).astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """Mean penalised cross-entropy and its slope; parameters: [labels, hidden] and, if free, biases."""

    rows: Array  # [rows, hidden]
    truth: Array  # [rows, labels]; one 1 in each row, of sets any number
    sets: bool
    weights: Array  # [rows]
    centre: Array  # [labels, hidden]
    penalty: Array  # [labels, 1]
    bias: Array | None  # [labels]; None: free

    def first(self) -> Array:
        """Where to begin: at the centre of the penalty."""
        free = np.zeros(len(self.centre) if self.bias is None else 0)
        return np.concatenate([self.centre.ravel(), free])

    def head(self, flat: Array) -> Head:
        """The head of one vector of parameters."""
        weight = flat[: self.centre.size].reshape(self.centre.shape).astype(np.float32)
        bias = flat[self.centre.size :] if self.bias is None else self.bias
        return Head(weight=weight, bias=bias.astype(np.float32))

    def __call__(self, flat: Array) -> tuple[float, Array]:
        head = self.head(flat)
        own, scores = (_of_sets if self.sets else _of_one)(head.logits(self.rows), self.truth)
        away = flat[: self.centre.size].reshape(self.centre.shape) - self.centre
        penalty = self.penalty / len(self.rows)
        value = -float((self.weights * own).sum(dtype=np.float64)) / len(self.rows)
        value += 0.5 * float((penalty * away**2).sum())
        error = (scores - self.truth) * (self.weights / len(self.rows))[:, None]
        slope = error.T @ self.rows + penalty * away
        free = error.sum(axis=0) if self.bias is None else np.zeros(0)
        return value, np.concatenate([slope.ravel(), free]).astype(np.float64)


def _of_one(logits: Array, truth: Array) -> tuple[Array, Array]:
    """(log-likelihood [rows], softmax [rows, labels])."""
    logits -= logits.max(axis=1, keepdims=True)
    scores = np.exp(logits)
    total = scores.sum(axis=1, keepdims=True)
    return np.einsum("ij,ij->i", logits, truth) - np.log(total[:, 0]), scores / total


def _of_sets(logits: Array, truth: Array) -> tuple[Array, Array]:
    """(log-likelihood [rows] of all labels together, sigmoids [rows, labels])."""
    softplus = np.logaddexp(0, logits)
    return np.einsum("ij,ij->i", logits, truth) - softplus.sum(axis=1), np.exp(logits - softplus)
