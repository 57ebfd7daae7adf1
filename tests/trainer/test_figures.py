"""Calibration and figures."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.calibrate import ece, nll, temperature
from trainer.errors import UnknownTaskError
from trainer.evaluate import evaluate
from trainer.tasks import load, names
from trainer.tasks.classification import decode


def test_the_temperature_brings_overconfident_scores_back() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3)) * 2
    truth = np.array([rng.choice(3, p=row) for row in decode(true, 1.0)])
    assert temperature(true * 3, truth) == pytest.approx(3.0, rel=0.1)
    assert ece(decode(true * 3, 3.0), truth) < ece(decode(true * 3, 1.0), truth)


def test_few_rows_leave_the_temperature_alone() -> None:
    assert temperature(np.ones((19, 2)), np.zeros(19, dtype=int)) == 1.0


def test_scores_sum_to_one_even_for_huge_logits() -> None:
    scores = decode(np.array([[1e4, -1e4, 0.0]], dtype=np.float32), 0.5)
    assert scores.sum() == pytest.approx(1.0)
    assert np.isfinite(nll(scores, np.array([1])))


def test_a_class_without_rows_does_not_lower_the_mean() -> None:
    found = evaluate(np.array([[0.9, 0.1, 0.0]] * 4), np.array([0, 0, 0, 0]), ["a", "b", "c"])
    assert found["macro_f1"] == 1.0
    assert found["per_class"]["c"] == {"rows": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_no_rows_give_no_figure_instead_of_a_perfect_one() -> None:
    assert evaluate(np.zeros((0, 2)), np.zeros(0, dtype=int), ["a", "b"])["accuracy"] is None


@pytest.mark.parametrize("name", names())
def test_every_task_turns_logits_into_probabilities(name: str) -> None:
    scores = load(name).decode(np.random.default_rng(0).normal(size=(5, 3)), 1.3)
    assert scores.shape == (5, 3)
    assert scores.sum(axis=1) == pytest.approx(np.ones(5))


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTaskError, match="Known: classification"):
        load("poetry")
