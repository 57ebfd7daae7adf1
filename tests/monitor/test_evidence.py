"""Conformance: every detector of the package, found by walking it, keeps the same promises."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from monitor import pager
from monitor.evidence import Detector, detectors, judge_window, open_wealth
from monitor.severity import mix_severity, rank_severity, rate_severity
from monitor.windows import Window

NAMES = ("billing", "sales", "tech", "travel")
EVERY = pytest.mark.parametrize("detector", detectors(), ids=lambda detector: detector.name)


def window(rows: int, seed: int, *, worse: float = 0.0, first_seq: int = 1) -> Window:
    """`worse` sd lower similarity and confidence, other classes, wrong answers."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.4, 0.3, 0.2, 0.1]) * (1 - worse) + np.array([0.1, 0.2, 0.3, 0.4]) * worse
    label_index = rng.choice(4, rows, p=shares / shares.sum()).astype(np.int64)
    right = rng.random(rows) < 0.93 - 0.3 * worse
    return Window(
        model="router",
        version="v1",
        labels=NAMES,
        label_index=label_index,
        score=1 / (1 + np.exp(worse - 2 - rng.normal(size=rows))),
        scores=rng.dirichlet(np.ones(4), rows),
        similarity=0.6 + 0.1 * (rng.normal(size=rows) - worse),
        tokens=np.full(rows, 9.0),
        characters=np.full(rows, 40.0),
        text=(None,) * rows,
        truth=tuple(
            NAMES[index if good else (index + 1) % 4]
            for index, good in zip(label_index.tolist(), right.tolist(), strict=True)
        ),
        ids=tuple(str(row) for row in range(rows)),
        first_seq=first_seq,
        last_seq=first_seq + rows - 1,
        start_at=0.0,
        end_at=1.0,
    )


def blank(found: Window) -> Window:
    nothing = np.full(found.rows, np.nan)
    return replace(
        found,
        similarity=nothing,
        score=nothing,
        truth=(None,) * found.rows,
        label_index=np.full(found.rows, -1),
    )


REFERENCE = window(600, seed=0)


@EVERY
def test_it_has_a_name_of_its_own_and_a_known_bet(detector: Detector) -> None:
    assert [found.name for found in detectors()].count(detector.name) == 1
    assert open_wealth(detector, REFERENCE).log_e == 0
    assert detector.reads in ("predictions", "labels")


@EVERY
def test_one_number_a_row_that_no_other_row_changes(detector: Detector) -> None:
    found = window(50, seed=1)
    values = detector.values(found)
    assert values.shape == (50,)
    other = replace(found, score=found.score.copy(), similarity=found.similarity.copy())
    other.score[1:], other.similarity[1:] = 0.0, 0.0
    assert detector.values(other)[0] == values[0]


@EVERY
def test_it_pages_a_large_change_within_five_windows_and_says_how_large(detector: Detector) -> None:
    wealth = open_wealth(detector, REFERENCE)
    for t in range(5):
        found, wealth = judge_window(
            detector, window(200, seed=t + 1, worse=1.0, first_seq=1 + 200 * t), REFERENCE, wealth, minimum=30
        )
    assert found.log_e == wealth.log_e >= math.log(4 / 0.01)
    assert found.p_value is not None
    assert found.p_value < 1e-3
    assert found.effect is not None
    assert abs(found.effect) > 0.2


@EVERY
def test_clean_windows_are_not_paged(detector: Detector) -> None:
    wealth = open_wealth(detector, REFERENCE)
    for t in range(20):
        _, wealth = judge_window(
            detector, window(200, seed=t + 1, first_seq=1 + 200 * t), REFERENCE, wealth, minimum=30
        )
        assert wealth.log_e < math.log(100)


@EVERY
def test_p_values_of_clean_windows_are_below_a_tenth_about_a_tenth_of_the_time(detector: Detector) -> None:
    low = 0
    for seed in range(200):
        base, current = (
            detector.values(window(rows, seed=2 * seed + k)) for k, rows in ((1000, 150), (1001, 80))
        )
        low += detector.severity(base, current, seed=seed).p_value <= 0.1
    assert low / 200 <= 0.1 + 3 * math.sqrt(0.09 / 200)


@EVERY
@pytest.mark.parametrize("rows", [0, 1, 29])
def test_too_few_rows_are_no_evidence_and_no_bet(detector: Detector, rows: int) -> None:
    wealth = open_wealth(detector, REFERENCE)
    found, after = judge_window(detector, window(rows, seed=1, worse=1.0), REFERENCE, wealth, minimum=30)
    assert (found.enough, found.rows) == (False, rows)
    assert (found.effect, found.p_value, found.log_e) == (None, None, None)
    assert after is wealth
    assert found.detail["minimum"] == 30


@EVERY
@pytest.mark.parametrize("empty", ["window", "reference"])
def test_rows_without_values_are_no_evidence(detector: Detector, empty: str) -> None:
    current, base = window(100, seed=1), REFERENCE
    current, base = (blank(current), base) if empty == "window" else (current, blank(base))
    found, _ = judge_window(detector, current, base, open_wealth(detector, base), minimum=30)
    assert not found.enough
    assert found.p_value is None


@EVERY
def test_one_row_gives_finite_numbers_where_one_row_is_asked_for(detector: Detector) -> None:
    found, wealth = judge_window(
        detector, window(1, seed=1), REFERENCE, open_wealth(detector, REFERENCE), minimum=1
    )
    assert found.enough
    assert all(math.isfinite(number) for number in (found.effect or 0, found.p_value or 0, wealth.log_e))


@EVERY
def test_constant_rows_prove_nothing(detector: Detector) -> None:
    def constant(rows: int) -> Window:
        found = window(rows, seed=0)
        return replace(
            found,
            similarity=np.full(rows, 0.5),
            score=np.ones(rows),
            label_index=np.zeros(rows, dtype=np.int64),
            truth=(NAMES[0],) * rows,
        )

    base = constant(300)
    wealth = open_wealth(detector, base)
    for t in range(5):
        found, wealth = judge_window(
            detector, replace(constant(100), first_seq=1 + 100 * t), base, wealth, minimum=30
        )
        assert found.p_value is not None
        assert found.p_value > 0.5
        assert found.effect == 0
    assert wealth.log_e < math.log(20)


@EVERY
def test_results_are_the_same_in_every_run_and_are_json(detector: Detector) -> None:
    runs = [
        judge_window(detector, window(100, seed=1), REFERENCE, open_wealth(detector, REFERENCE), minimum=30)
        for _ in range(2)
    ]
    assert runs[0][0] == runs[1][0]
    state = json.loads(json.dumps(pager.to_json(runs[0][1]), allow_nan=False))
    assert pager.from_json(state).log_e == runs[1][1].log_e
    assert json.loads(json.dumps(runs[0][0].detail, allow_nan=False))
    assert {"effect", "test"} <= runs[0][0].detail.keys()


def test_only_class_mix_means_no_loss() -> None:
    assert [found.name for found in detectors() if not found.means_loss] == ["class_mix"]


def test_an_unseen_class_is_surprising_but_finite() -> None:
    found = mix_severity(np.zeros(200), np.concatenate([np.zeros(80), np.ones(20)]), seed=0)
    assert found.p_value == 1 / 2000
    assert found.effect == pytest.approx(0.2)
    assert found.detail["unseen_classes"] == 1


def test_severities_agree_with_scipy() -> None:
    from scipy.stats import fisher_exact, mannwhitneyu

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=80), rng.normal(size=50) - 0.3
    assert rank_severity(a, b).p_value == pytest.approx(mannwhitneyu(b, a, alternative="less").pvalue)
    table = [[40, 10], [95, 5]]
    right = [np.repeat([1.0, 0.0], row) for row in table]
    assert rate_severity(right[1], right[0]).p_value == pytest.approx(
        fisher_exact(table, alternative="less").pvalue
    )
