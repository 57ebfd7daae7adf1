"""The penalty of a head is chosen by rows that it did not learn."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.head import STRENGTH, Array, Head, fit_head, losses
from trainer.penalty import CHOICES, choose


def rows(classes: int, *, each: int, noise: float, seed: int = 0) -> tuple[Array, Array]:
    """Unit rows around a direction per class, [classes * each, 64], and labels of which `noise` are drawn."""
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(classes), each)
    found = np.eye(64)[truth] + draw.normal(scale=0.2, size=(len(truth), 64))
    wrong = draw.random(len(truth)) < noise
    truth = np.where(wrong, draw.integers(0, classes, len(truth)), truth)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), truth


def test_noisy_labels_get_a_stronger_penalty_and_many_classes_a_weaker() -> None:
    assert choose(*rows(3, each=200, noise=0.6), classes=3, seed=0) == min(CHOICES)
    assert choose(*rows(60, each=8, noise=0.0), classes=60, seed=0) == max(CHOICES)


def test_of_penalties_that_do_alike_the_strongest_is_taken() -> None:
    assert choose(*rows(3, each=200, noise=0.15), classes=3, seed=0) == min(CHOICES)


def test_sets_of_labels_have_a_penalty_too() -> None:
    embeddings, truth = rows(3, each=200, noise=0.6)
    assert choose(embeddings, np.eye(3)[truth], classes=3, seed=0) == min(CHOICES)


def test_few_rows_tell_nothing() -> None:
    assert choose(*rows(3, each=50, noise=0.6), classes=3, seed=0) == STRENGTH


def test_labels_of_one_row_do_not_decide() -> None:
    embeddings, truth = rows(60, each=8, noise=0.0)
    lonely = np.concatenate([truth, np.arange(60, 100)])
    more = np.concatenate([embeddings, rows(40, each=1, noise=0.0, seed=1)[0]])
    assert choose(more, lonely, classes=100, seed=0) == STRENGTH  # 3, did they count


def test_a_loss_is_minus_the_log_likelihood() -> None:
    embeddings, truth = rows(3, each=20, noise=0.1)
    head = fit_head(embeddings, truth, classes=3)
    logits = head.logits(embeddings)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert losses(head, embeddings, truth) == pytest.approx(-np.log(scores[np.arange(60), truth]), rel=1e-4)
    blank = Head(weight=np.zeros((3, 64), dtype=np.float32), bias=np.zeros(3, dtype=np.float32))
    assert losses(blank, embeddings, np.eye(3)[truth]) == pytest.approx([3 * np.log(2)] * 60, rel=1e-5)
