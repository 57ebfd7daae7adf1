"""Calibration and figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trainer.calibrate import cross_fitted, ece, nll, temperature
from trainer.errors import UnknownTaskError
from trainer.evaluate import Answers, by_class, by_slice, compared, figures, macro_f1, share
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


def _answers(said: Sequence[int], truth: Sequence[int], slices: Sequence[Sequence[str]] = ()) -> Answers:
    logits = 4.0 * np.eye(3)[list(said)]
    return Answers(logits=logits, truth=np.array(truth), slices=slices or [()] * len(truth))


def test_a_class_without_rows_has_no_figure_and_does_not_lower_the_mean() -> None:
    answers = _answers([0, 1] * 20, [0, 1] * 20)
    assert figures(answers, temperature=1.0, seed=0)["macro_f1"]["value"] == 1.0
    assert by_class(answers, ["a", "b", "c"])["c"]["f1"] is None
    assert by_class(answers, ["a", "b", "c"])["c"]["recall"] == {
        "rows": 0, "value": None, "note": "not enough data"
    }  # fmt: skip


def test_no_rows_give_no_figure_instead_of_a_perfect_one() -> None:
    found = figures(_answers([], []), temperature=1.0, seed=0)
    assert (found["rows"], found["accuracy"], found["ece"]) == (0, None, None)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [share(int(rng.binomial(60, 0.9)), 60) for _ in range(2000)]
    assert 0.92 <= np.mean([one["low"] <= 0.9 <= one["high"] for one in found]) <= 0.98


def test_the_bootstrap_repeats_with_its_seed_and_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=200)
    said = np.where(rng.random(200) < 0.8, truth, rng.integers(3, size=200))
    found = macro_f1(said, truth, seed=7)
    assert found == macro_f1(said, truth, seed=7)
    assert found["low"] < found["value"] < found["high"]
    assert macro_f1(said[:5], truth[:5], seed=7)["value"] is None


def test_slices_are_told_apart() -> None:
    slices = [["recent", "channel=mail"]] * 30 + [["base"]] * 10
    found = by_slice(_answers([0] * 40, [0] * 24 + [1] * 6 + [0] * 10, slices))
    assert list(found) == ["channel=mail", "recent", "base"]
    assert found["recent"]["value"] == 0.8
    assert found["base"]["note"] == "not enough data"


def test_the_figures_of_calibration_are_not_fitted_on_the_rows_they_are_measured_on() -> None:
    """On few rows a temperature fits luck: measured on the rows it was fitted on it looks too good."""
    fitted, crossed, plain = [], [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        true = rng.normal(size=(60, 3)) * 2
        truth = np.array([rng.choice(3, p=row) for row in decode(true, 1.0)])
        fitted.append(nll(decode(true * 3, temperature(true * 3, truth)), truth))
        crossed.append(nll(cross_fitted(true * 3, truth, seed=seed), truth))
        plain.append(nll(decode(true * 3, 1.0), truth))
    assert np.mean(fitted) < np.mean(crossed) < np.mean(plain)


def test_a_lost_row_on_each_side_is_no_loss() -> None:
    before, now = np.ones(40, dtype=bool), np.ones(40, dtype=bool)
    before[0] = now[1] = False
    found = compared(before, now)
    assert found["lost_points"] == 0
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize("name", names())
def test_every_task_turns_logits_into_probabilities(name: str) -> None:
    scores = load(name).decode(np.random.default_rng(0).normal(size=(5, 3)), 1.3)
    assert scores.shape == (5, 3)
    assert ((scores > 0) & (scores < 1)).all()
    if name == "classification":
        assert scores.sum(axis=1) == pytest.approx(np.ones(5))


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTaskError, match="Known: classification"):
        load("poetry")
