"""The penalty of a head is chosen by rows that it did not learn."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import penalty
from trainer.head import STRENGTH, Array, Head, fit_head, loss
from trainer.penalty import CHOICES, choose


def rows(classes: int, *, each: int, noise: float, seed: int = 0) -> tuple[Array, Array]:
    """Unit rows around a direction per class, [classes * each, 64], and labels of which `noise` are drawn."""
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(classes), each)
    found = np.eye(64)[truth] + draw.normal(scale=0.2, size=(len(truth), 64))
    wrong = draw.random(len(truth)) < noise
    truth = np.where(wrong, draw.integers(0, classes, len(truth)), truth)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), truth


def test_noisy_labels_get_a_stronger_penalty_and_clean_ones_a_weaker() -> None:
    noisy, clean = rows(3, each=200, noise=0.6), rows(20, each=40, noise=0.0)
    assert choose(*noisy, classes=3, seed=0) == min(CHOICES)
    assert choose(*clean, classes=20, seed=0) == max(CHOICES)


def test_sets_of_labels_have_a_penalty_too() -> None:
    embeddings, truth = rows(3, each=200, noise=0.6)
    assert choose(embeddings, np.eye(3)[truth], classes=3, seed=0) == min(CHOICES)


def test_few_rows_tell_nothing() -> None:
    assert choose(*rows(3, each=50, noise=0.6), classes=3, seed=0) == STRENGTH


def test_a_gain_within_rounding_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([1.0, 0.995, 0.991, 1.2])
    monkeypatch.setattr(penalty, "loss", lambda *_: next(found))
    assert choose(*rows(3, each=100, noise=0.0), classes=3, seed=0) == STRENGTH


def test_labels_of_one_row_do_not_decide() -> None:
    embeddings, truth = rows(20, each=40, noise=0.0)
    lonely = np.concatenate([truth, np.arange(20, 60)])
    more = np.concatenate([embeddings, embeddings[:40]])
    assert choose(more, lonely, classes=60, seed=0) == max(CHOICES)


def test_the_loss_is_the_mean_of_minus_log_likelihood() -> None:
    embeddings, truth = rows(3, each=20, noise=0.1)
    head = fit_head(embeddings, truth, classes=3)
    logits = head.logits(embeddings)
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss(head, embeddings, truth) == pytest.approx(
        -np.log(scores[np.arange(60), truth]).mean(), rel=1e-5
    )
    blank = Head(weight=np.zeros((3, 64), dtype=np.float32), bias=np.zeros(3, dtype=np.float32))
    assert loss(blank, embeddings, np.eye(3)[truth]) == pytest.approx(3 * np.log(2), rel=1e-5)
