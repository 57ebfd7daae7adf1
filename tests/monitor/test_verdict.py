from __future__ import annotations

import json
import math

import numpy as np
import pytest

from monitor.errors import UnpairedRowsError
from monitor.verdict import (
    Intent,
    Pairs,
    gain_lower_bound,
    judge_accuracy,
    mcnemar_mid_p,
    non_inferiority,
    pair,
    power_line,
)
from tests.benchmarks.verdict import exact_size


def draw(rng: np.random.Generator, n: int, discordant: float, gain: float) -> Pairs:
    lost, won = (discordant - gain) / 2, (discordant + gain) / 2
    both, champion, challenger, neither = rng.multinomial(n, [0.85 - lost, lost, won, 0.15 - won])
    return Pairs(
        both=int(both), only_champion=int(champion), only_challenger=int(challenger), neither=int(neither)
    )


def promoted(intent: Intent, *, recent_gain: float, base_gain: float, runs: int = 600, n: int = 300) -> float:
    rng = np.random.default_rng(11)
    verdicts = [
        judge_accuracy(
            intent, recent=draw(rng, n, 0.06, recent_gain), base=draw(rng, 1000, 0.06, base_gain), margin=0.03
        )
        for _ in range(runs)
    ]
    return sum(verdict.promote for verdict in verdicts) / runs


def at_most(share: float, runs: int = 600) -> float:
    return share + 3 * math.sqrt(share * (1 - share) / runs)


def test_the_same_model_twice_is_not_promoted_as_better_more_than_one_time_in_twenty() -> None:
    assert promoted("drift", recent_gain=0.0, base_gain=0.0) <= at_most(0.05)


def test_a_challenger_that_forgets_three_points_of_old_traffic_is_not_promoted() -> None:
    assert promoted("drift", recent_gain=0.05, base_gain=-0.03) <= at_most(0.05)


def test_a_refresh_that_loses_the_margin_on_recent_traffic_is_not_promoted() -> None:
    assert promoted("refresh", recent_gain=-0.03, base_gain=0.0) <= at_most(0.05)


def test_a_challenger_that_wins_five_points_where_the_drift_is_gets_promoted() -> None:
    assert promoted("drift", recent_gain=0.05, base_gain=0.0) > 0.9


def test_a_refresh_with_an_equal_model_gets_promoted_when_there_are_enough_rows() -> None:
    assert promoted("refresh", recent_gain=0.0, base_gain=0.0, n=1500) > 0.9


@pytest.mark.parametrize(("b", "c"), [(0, 5), (1, 8), (3, 3), (10, 30), (200, 260)])
def test_mid_p_is_the_binomial_tail_less_half_of_what_was_seen(b: int, c: int) -> None:
    ways = [math.comb(b + c, k) for k in range(c, b + c + 1)]
    exact = (sum(ways) - ways[0] / 2) / 2 ** (b + c)
    assert mcnemar_mid_p(b, c) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("discordance", [0.02, 0.06, 0.15])
def test_equal_models_are_found_better_at_most_one_time_in_twenty_by_enumeration(discordance: float) -> None:
    assert 0.02 < exact_size(300, discordance) <= 0.05


def test_two_points_in_a_thousand_rows_are_found_four_times_in_five_by_enumeration() -> None:
    assert exact_size(1000, 0.06, 0.02) >= 0.8


def test_without_a_discordant_row_there_is_no_evidence() -> None:
    assert mcnemar_mid_p(0, 0) == 1.0
    assert mcnemar_mid_p(0, 20_000) < 1e-300


def chance(b: int, c: int, n: int, lost: float, won: float) -> float:
    """Probability of b rows lost and c won of n."""
    if c and not won:
        return 0.0
    log = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) - math.lgamma(n - b - c + 1)
    log += b * math.log(lost) + (c * math.log(won) if c else 0.0)
    return math.exp(log + (n - b - c) * math.log(1 - lost - won))


@pytest.mark.parametrize("n", [99, 150])
def test_a_loss_of_the_margin_passes_at_most_55_times_in_a_thousand_whatever_the_discordance(n: int) -> None:
    margin = 0.03
    passing = [
        (b, c) for c in range(25) for b in range(40) if b + c <= n and gain_lower_bound(b, c, n) > -margin
    ]
    for won in (0.0, 0.002, 0.01, 0.02, 0.04):
        assert sum(chance(b, c, n, won + margin, won) for b, c in passing) <= 0.055


def test_equal_answers_on_too_few_rows_are_not_enough_data() -> None:
    few = Pairs(both=98, only_champion=0, only_challenger=0, neither=0)
    enough = Pairs(both=99, only_champion=0, only_challenger=0, neither=0)
    assert not non_inferiority(few, 0.03).passed
    assert non_inferiority(enough, 0.03).passed
    verdict = judge_accuracy("refresh", recent=enough, base=few, margin=0.03)
    assert not verdict.promote
    assert "98 labelled rows of old traffic, at least 99" in verdict.reasons[0]


@pytest.mark.parametrize("intent", ["drift", "refresh"])
def test_without_rows_nothing_is_promoted_and_the_numbers_are_json(intent: Intent) -> None:
    none = Pairs(both=0, only_champion=0, only_challenger=0, neither=0)
    verdict = judge_accuracy(intent, recent=none, base=none, margin=0.03)
    assert not verdict.promote
    assert all(reason.startswith("Not enough data") for reason in verdict.reasons)
    assert json.loads(json.dumps(verdict.numbers, allow_nan=False))["base"]["rows"] == 0


@pytest.mark.parametrize(
    ("b", "c", "n"), [(0, 0, 10), (5, 0, 5), (0, 5, 5), (3, 4, 200), (60, 20, 100), (1, 0, 1)]
)
def test_the_bound_lies_below_the_gain_and_above_minus_one(b: int, c: int, n: int) -> None:
    assert -1 <= gain_lower_bound(b, c, n) < (c - b) / n + 1e-9


def test_the_power_line_shrinks_with_more_rows() -> None:
    assert "n = 100 a drop under" in power_line(Pairs(both=90, only_champion=3, only_challenger=3, neither=4))
    few, many = (Pairs(both=94 * k, only_champion=3 * k, only_challenger=3 * k, neither=0) for k in (1, 10))
    assert float(power_line(many).split()[7]) < float(power_line(few).split()[7])


def test_answers_to_other_rows_are_refused() -> None:
    with pytest.raises(UnpairedRowsError, match="2 of the champion and 1 of the challenger"):
        pair([True, False], [True])
