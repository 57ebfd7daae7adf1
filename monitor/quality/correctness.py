"""P(correct): how likely each answer is right, from its score, its similarity and a second opinion.

The start is a logistic curve over the version's replayed reference. Labels of the window, and of rows before
it, then move the curve: a ridge holds it near the start, so ten labels move it a little and a hundred decide.
A labelled row is judged by a head and a curve that were fitted without it (cross-prediction, Zrnic and Candès
2024), so that a good fit is not luck. What is left: heads that saw the row gave the opinions on which its
curve was fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.quality.opinion import opinion
from monitor.windows import Floats, Ints

Bools = npt.NDArray[np.bool_]

FOLDS = 5
_START = np.array([0.0, 1.0, 0.0, 1.0])  # a calibrated score is the probability; an opinion replaces it
_START_RIDGE = 1.0  # of the reference's fit, in rows at even odds times four
_MOVE_RIDGE = 4.0  # of the window's fit
_STEPS = 25
_CLOSE = 1e-6
_SEED = 0  # of the folds


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """N answered rows; `scores` and `embedding` are None where a window is too long to read them."""

    answered: Ints  # label numbers, -1 outside the labels: [N]
    score: Floats  # [N]
    similarity: Floats  # NaN where not known: [N]
    scores: Floats | None = None  # [N, C]
    embedding: Floats | None = None  # [N, D]

    def __len__(self) -> int:
        return len(self.score)

    def only(self, kept: Bools) -> Served:
        """The rows where `kept` [N]."""
        return Served(
            answered=self.answered[kept],
            score=self.score[kept],
            similarity=self.similarity[kept],
            scores=None if self.scores is None else self.scores[kept],
            embedding=None if self.embedding is None else self.embedding[kept],
        )

    def followed(self, later: Served) -> Served:
        """These rows and then the `later` ones; scores and embeddings where both have them alike."""
        return Served(
            answered=np.concatenate([self.answered, later.answered]),
            score=np.concatenate([self.score, later.score]),
            similarity=np.concatenate([self.similarity, later.similarity]),
            scores=_stacked(self.scores, later.scores),
            embedding=_stacked(self.embedding, later.embedding),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """n labelled rows of a `Served`."""

    rows: Ints  # [n]
    truth: Ints  # label numbers, -1 for a class that the version does not have: [n]
    correct: Floats  # 1 right, 0 wrong: [n]

    def only(self, kept: Bools) -> Labelled:
        """The labels where `kept` [n]."""
        return Labelled(rows=self.rows[kept], truth=self.truth[kept], correct=self.correct[kept])

    def followed(self, later: Labelled, rows: int) -> Labelled:
        """These labels, of the first `rows` rows, and then those of the `later` rows."""
        return Labelled(
            rows=np.concatenate([self.rows, later.rows + rows]),
            truth=np.concatenate([self.truth, later.truth]),
            correct=np.concatenate([self.correct, later.correct]),
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """P(correct) = sigmoid(features @ weights); similarity is centred on the reference: [4]."""

    weights: Floats
    centre: float
    scale: float

    def __call__(self, score: Floats, similarity: Floats, second: Floats | None = None) -> Floats:
        """P(correct) of each row, in (0, 1): [N]."""
        return _sigmoid(self._features(score, similarity, second) @ self.weights)

    def moved(self, served: Served, second: Floats, labelled: Labelled, *, ridge: float) -> Curve:
        """The curve after labels; `second` [N] is another probability of the served answers."""
        if not len(labelled.rows):
            return self
        rows = labelled.rows
        features = self._features(served.score[rows], served.similarity[rows], second[rows])
        weights = _fit(features, labelled.correct, self.weights, ridge)
        return Curve(weights, self.centre, self.scale)

    def _features(self, score: Floats, similarity: Floats, second: Floats | None) -> Floats:
        near = np.where(np.isnan(similarity), 0.0, (similarity - self.centre) / self.scale)
        sure = _logit(score)
        change = np.zeros(len(score)) if second is None else _logit(second) - sure
        return np.column_stack([np.ones(len(score)), sure, near, change])


def reference_curve(score: Floats, similarity: Floats, correct: Floats) -> Curve:
    """Fit the start on replayed rows [n] whose truth is known; without rows the score itself.

    >>> start = reference_curve(np.array([]), np.array([]), np.array([]))
    >>> start(np.array([0.9]), np.array([np.nan])).round(2).tolist()
    [0.9]
    """
    known = similarity[~np.isnan(similarity)]
    spread = float(known.std()) if known.size else 0.0
    blank = Curve(_START, float(known.mean()) if known.size else 0.0, spread if spread > 0 else 1.0)
    rows = np.arange(len(score))
    served = Served(answered=rows, score=score, similarity=similarity)
    every = Labelled(rows=rows, truth=rows, correct=correct)
    return blank.moved(served, score, every, ridge=_START_RIDGE)


def cross_fitted(
    start: Curve, served: Served, labelled: Labelled, earlier: tuple[Served, Labelled] | None = None
) -> Floats:
    """P(correct) of every row [N]; unlabelled rows get the mean of the folds' curves.

    `earlier` are rows from before `served`; their labels teach and are not judged. They are left out where
    they have no embeddings of the same size.
    """
    if earlier is not None:
        before, taught = earlier
        joined = before.followed(served)
        if (joined.embedding is None) == (served.embedding is None):
            both = taught.followed(labelled, len(before))
            return cross_fitted(start, joined, both)[len(before) :]
    fold = np.random.default_rng(_SEED).permutation(len(labelled.rows)) % FOLDS
    seconds = [_second(served, labelled, fold != number) for number in range(FOLDS)]
    own = np.array(served.score)  # each labelled row by the head that did not see it
    for number in range(FOLDS):
        held = labelled.rows[fold == number]
        own[held] = seconds[number][held]
    total, judged = np.zeros(len(served)), np.zeros(len(served))
    for number in range(FOLDS):
        curve = start.moved(served, own, labelled.only(fold != number), ridge=_MOVE_RIDGE)
        every = curve(served.score, served.similarity, seconds[number])
        held = labelled.rows[fold == number]
        judged[held] = every[held]
        total += every
    found = total / FOLDS
    found[labelled.rows] = judged[labelled.rows]
    return np.asarray(found)


def _second(served: Served, labelled: Labelled, kept: Bools) -> Floats:
    if served.scores is None or served.embedding is None:
        return served.score
    seen, truth = labelled.rows[kept], labelled.truth[kept]
    return opinion(served.scores, served.embedding, served.answered, seen, truth)


def _fit(features: Floats, correct: Floats, start: Floats, ridge: float) -> Floats:
    """Ridge logistic regression towards `start`, by Newton's method; a step too long is halved."""

    def loss(weights: Floats) -> float:
        logit = features @ weights
        away = weights - start
        return float((np.logaddexp(0, logit) - correct * logit).sum() + ridge * away @ away / 2)

    weights, held = start.copy(), loss(start)
    for _ in range(_STEPS):
        chance = _sigmoid(features @ weights)
        gradient = features.T @ (correct - chance) - ridge * (weights - start)
        curvature = (features * (chance * (1 - chance))[:, None]).T @ features
        step = np.linalg.solve(curvature + ridge * np.eye(len(start)), gradient)
        while (tried := loss(weights + step)) > held and float(np.abs(step).max()) > _CLOSE:
            step = step / 2
        weights, held = weights + step, tried
        if float(np.abs(step).max()) <= _CLOSE:
            break
    return np.asarray(weights, dtype=np.float64)


def _stacked(first: Floats | None, second: Floats | None) -> Floats | None:
    if first is None or second is None or first.shape[1] != second.shape[1]:
        return None
    return np.concatenate([first, second])


def _logit(chance: Floats) -> Floats:
    kept = np.clip(chance, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(kept / (1 - kept)), dtype=np.float64)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), dtype=np.float64)
