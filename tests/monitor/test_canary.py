from __future__ import annotations

import math

import numpy as np
import pytest

from monitor.canary import Action, Row, differences, judge_canary, log_wealth
from monitor.errors import GainRangeError


def stream(
    rng: np.random.Generator, rows: int, champion: float, canary: float, share: float = 0.3
) -> list[Row]:
    arms = rng.random(rows) < share
    values = rng.random(rows)
    return [
        Row("canary", float(value < canary)) if arm else Row("champion", float(value < champion))
        for arm, value in zip(arms, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("gains", "faults", "action"),
    [
        ([], [], "go on"),
        ([0.0] * 20, [0.0] * 20, "go on"),
        ([0.0] * 400, [0.0] * 400, "promote"),  # always the same answers
        ([-1.0] * 5, [], "go on"),
        ([-1.0] * 30, [], "roll back"),
        ([1.0] * 30, [], "promote"),
        ([1.0] * 30, [1.0] * 30, "roll back"),  # right, but it fails
        ([-1.0] * 30 + [1.0] * 300, [], "roll back"),  # a proof of harm is not taken back
        ([0.0] * 400, [-1.0] * 400, "promote"),
    ],
)
def test_what_was_seen_decides(gains: list[float], faults: list[float], action: Action) -> None:
    assert judge_canary(gains, faults, margin=0.03).action == action


def test_the_margin_is_what_a_promoted_canary_may_lose() -> None:
    gains = ([-1.0] + [0.0] * 32) * 60  # loses three points
    small, large = (judge_canary(gains, [], margin=margin).log_e_good for margin in (0.03, 0.06))
    assert small < math.log(20) < large


def ended(*, champion: float, canary: float, runs: int = 300, rows: int = 3000) -> dict[Action, float]:
    """How streams end that are looked at after every row."""
    rng = np.random.default_rng(7)
    found: dict[Action, float] = {"promote": 0.0, "roll back": 0.0, "go on": 0.0}
    for _ in range(runs):
        gains = differences(stream(rng, rows, champion, canary))
        harm, good = log_wealth([-one for one in gains], mean=0.0), log_wealth(gains, mean=-0.03)
        crossings = [np.flatnonzero(harm >= math.log(40)), np.flatnonzero(good >= math.log(20))]
        first = [int(one[0]) if one.size else rows for one in crossings]
        action: Action = (
            "go on" if min(first) == rows else ("roll back" if first[0] <= first[1] else "promote")
        )
        found[action] += 1 / runs
    return found


def test_an_equal_canary_is_hardly_ever_rolled_back_however_often_one_looks() -> None:
    assert ended(champion=0.9, canary=0.9)["roll back"] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 300)


def test_a_canary_that_loses_the_margin_is_hardly_ever_promoted() -> None:
    assert ended(champion=0.9, canary=0.87)["promote"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_canary_that_loses_ten_points_is_rolled_back() -> None:
    assert ended(champion=0.9, canary=0.8, runs=60)["roll back"] > 0.95


def test_traffic_that_changes_under_both_arms_harms_neither() -> None:
    rng = np.random.default_rng(1)
    rolled = 0
    for _ in range(100):
        rows = [row for level in (0.95, 0.6, 0.9) for row in stream(rng, 600, level, level)]
        rolled += judge_canary(differences(rows), [], margin=0.03).action == "roll back"
    assert rolled <= 8


def test_wealth_is_a_fair_game_at_the_edge_of_the_hypothesis() -> None:
    """The mean over both outcomes of a fair coin is what it was: exactly, not by simulation."""
    for mean in (-0.03, 0.0, 0.2):
        up = (1 + mean) / 2  # chance of +1, so that the expected gain is `mean`
        past = [0.5, -1.0, 1.0]
        before = math.exp(log_wealth(past, mean=mean)[-1])
        after = [math.exp(log_wealth([*past, gain], mean=mean)[-1]) for gain in (1.0, -1.0)]
        assert up * after[0] + (1 - up) * after[1] == pytest.approx(before)


def test_a_block_waits_for_both_arms_and_an_unfinished_one_does_not_count() -> None:
    canary, champion = Row("canary", 1.0), Row("champion", 0.0)
    assert differences([canary, canary, champion, champion]) == [1.0]
    assert differences([canary] * 5) == []


@pytest.mark.parametrize("wrong", [math.nan, 1.5, -2.0])
def test_a_difference_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(GainRangeError, match=r"\[-1, 1\]"):
        judge_canary([0.0, wrong], [], margin=0.03)
