"""Conformance: every detector of the package, found by walking it, keeps the same promises."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from exporter.sketch import GENERATED, SERIES
from monitor.evidence import (
    Detector,
    Evidence,
    bettors,
    detectors,
    judge_window,
    open_wealth,
    page_score,
    weighted,
)
from monitor.pager import Wealth
from monitor.reference import Reference
from monitor.severity import mix_severity, rank_severity, rate_severity
from monitor.stored_wealth import from_json, to_json
from monitor.tallies import CORRECT, FAILED, Tally
from tests.monitor.counted import Sample, answers, blank, constant, held_to, requests, sample, tally

EVERY = pytest.mark.parametrize("detector", detectors(), ids=lambda detector: detector.name)
BETTORS = pytest.mark.parametrize("detector", bettors(), ids=lambda detector: detector.name)
HELD = pytest.mark.parametrize(
    "detector",
    [found for found in detectors() if found.reads != "requests"],  # which are held to a stated rate
    ids=lambda detector: detector.name,
)
REFERENCE = held_to(sample(600, seed=0))


def counted(detector: Detector, found: Sample, *, to: Reference = REFERENCE, first_seq: int = 1) -> Tally:
    """The sample as the detector reads it."""
    if detector.reads == "labels":
        return answers(found, first_seq=first_seq)
    if detector.reads == "requests":
        return requests(found, first_seq=first_seq)
    return tally(to.sketch, found, first_seq=first_seq)


def opened(detector: Detector, reference: Reference = REFERENCE) -> Wealth | None:
    return open_wealth(detector, reference) if detector.bet else None


def judge(
    detector: Detector,
    found: Sample,
    wealth: Wealth | None,
    *,
    to: Reference = REFERENCE,
    first_seq: int = 1,
    minimum: int = 30,
) -> tuple[Evidence, Wealth | None]:
    window = counted(detector, found, to=to, first_seq=first_seq)
    return judge_window(detector, window, to, wealth, minimum=minimum)


@EVERY
def test_it_has_a_name_of_its_own_a_series_and_a_known_bet(detector: Detector) -> None:
    assert [found.name for found in detectors()].count(detector.name) == 1
    assert detector.series in (*SERIES, *GENERATED, *CORRECT, *FAILED)
    assert (wealth := opened(detector)) is None or wealth.log_e == 0
    assert detector.reads in ("predictions", "labels", "requests")
    assert (detector.reads == "labels") == (detector.series in CORRECT)
    assert (detector.reads == "requests") == (detector.series in FAILED)


def test_the_detectors_share_one_page_and_no_more() -> None:
    assert sum(found.weight for found in detectors()) == pytest.approx(1)
    assert min(found.weight for found in detectors()) >= 0
    assert all(found.weight == 0 for found in detectors() if found.bet is None)


def test_the_page_is_paid_from_each_detectors_share_of_the_budget() -> None:
    share = next(one.weight for one in detectors() if one.name == "similarity")
    assert weighted("similarity", 5.0) == pytest.approx(5.0 + math.log(share))
    assert page_score({"similarity": 5.0, "repetition": 5.0}) == weighted("similarity", 5.0)
    assert weighted("label_free_accuracy", 50.0) == -math.inf  # its evidence is that of confidence


@BETTORS
def test_it_pages_a_large_change_within_five_windows_and_says_how_large(detector: Detector) -> None:
    wealth = opened(detector)
    for t in range(5):
        found, wealth = judge(detector, sample(200, seed=t + 1, worse=1.0), wealth, first_seq=1 + 200 * t)
    assert wealth is not None
    assert found.log_e == wealth.log_e >= math.log(4 / 0.01)
    assert found.p_value is not None
    assert found.p_value < 1e-3
    assert found.effect is not None
    assert abs(found.effect) > 0.1


@BETTORS
def test_clean_windows_are_not_paged(detector: Detector) -> None:
    wealth = opened(detector)
    for t in range(20):
        _, wealth = judge(detector, sample(200, seed=t + 1), wealth, first_seq=1 + 200 * t)
        assert wealth is not None
        assert wealth.log_e < math.log(100)


@EVERY
def test_p_values_of_clean_windows_are_below_a_tenth_about_a_tenth_of_the_time(detector: Detector) -> None:
    low = 0
    for number in range(150):
        reference = held_to(sample(160, seed=2 * number + 1000))
        found, _ = judge(detector, sample(80, seed=2 * number + 1001), None, to=reference)
        assert found.p_value is not None
        low += found.p_value <= 0.1
    assert low / 150 <= 0.1 + 3 * math.sqrt(0.09 / 150)


@EVERY
@pytest.mark.parametrize("rows", [0, 1, 29])
def test_too_few_rows_are_no_evidence_and_no_bet(detector: Detector, rows: int) -> None:
    wealth = opened(detector)
    found, after = judge(detector, sample(rows, seed=1, worse=1.0), wealth)
    assert (found.enough, found.rows) == (False, rows)
    assert (found.effect, found.p_value, found.log_e) == (None, None, None)
    assert after is wealth
    assert found.detail["minimum"] == 30


@HELD
@pytest.mark.parametrize("empty", ["window", "reference"])
def test_rows_without_values_are_no_evidence(detector: Detector, empty: str) -> None:
    reference = held_to(blank(600)) if empty == "reference" else REFERENCE
    found = blank(100) if empty == "window" else sample(100, seed=1)
    seen, _ = judge(detector, found, opened(detector, reference), to=reference)
    assert not seen.enough
    assert seen.p_value is None


@BETTORS
def test_one_row_gives_finite_numbers_where_one_row_is_asked_for(detector: Detector) -> None:
    found, wealth = judge(detector, sample(1, seed=1), opened(detector), minimum=1)
    assert wealth is not None
    assert found.enough
    assert all(math.isfinite(number) for number in (found.effect or 0, found.p_value or 0, wealth.log_e))


@BETTORS
def test_constant_rows_prove_nothing(detector: Detector) -> None:
    reference = held_to(constant(300))
    wealth = opened(detector, reference)
    for t in range(5):
        found, wealth = judge(detector, constant(100), wealth, to=reference, first_seq=1 + 100 * t)
        assert found.p_value is not None
        assert found.p_value > 0.49
        assert found.effect == pytest.approx(0 if detector.reads != "requests" else -0.01)
    assert wealth is not None
    assert wealth.log_e < math.log(20)


@BETTORS
def test_results_are_the_same_in_every_run_and_are_json(detector: Detector) -> None:
    runs = [judge(detector, sample(100, seed=1), opened(detector)) for _ in range(2)]
    (first, wealth), (second, again) = runs
    assert first == second
    assert wealth is not None
    assert again is not None
    state = json.loads(json.dumps(to_json(wealth), allow_nan=False))
    assert from_json(state).log_e == again.log_e
    assert json.loads(json.dumps(first.detail, allow_nan=False))
    assert {"effect", "test"} <= first.detail.keys()


def test_severity_may_look_back_while_the_bet_sees_the_window_only() -> None:
    (detector,) = (found for found in detectors() if found.name == "similarity")
    window, recent = sample(100, seed=1), sample(400, seed=2, worse=1.0)
    plain, wealth = judge(detector, window, opened(detector))
    rolled, same = judge_window(
        detector,
        counted(detector, window),
        REFERENCE,
        opened(detector),
        minimum=30,
        recent=counted(detector, recent),
    )
    assert wealth is not None
    assert same is not None
    assert rolled.log_e == plain.log_e
    assert (rolled.p_value or 1) < 1e-6 < (plain.p_value or 0)


def test_changes_of_texts_alone_mean_no_loss() -> None:
    loss = {found.name for found in detectors() if found.means_loss}
    unsure = {"accuracy", "confidence", "label_free_accuracy", "similarity"}
    assert loss == unsure | {"answer_perplexity", "prompt_perplexity"}  # confidence, similarity of a decoder


def test_accuracy_without_labels_follows_confidence() -> None:
    (detector,) = (found for found in detectors() if found.name == "label_free_accuracy")
    clean, worse = (judge(detector, sample(500, seed=5, worse=w), None)[0] for w in (0.0, 1.0))
    assert clean.effect == pytest.approx(0, abs=0.02)
    assert (worse.p_value or 1) < 1e-6


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
    wrong_right = [np.array(row[::-1]) for row in table]
    assert rate_severity(wrong_right[1], wrong_right[0]).p_value == pytest.approx(
        fisher_exact(table, alternative="less").pvalue
    )
