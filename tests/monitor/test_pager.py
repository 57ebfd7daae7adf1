from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from monitor import pager, ranks
from monitor.errors import StoredWealthError, UnknownBetError, WealthMismatchError
from monitor.pager import Wealth
from monitor.ranks import Bet, Floats
from monitor.stored_wealth import _packed, from_json, to_json

BETS: list[Bet] = ["down", "up", "both", "any"]  # against a reference; "rate" is against a known share


def count_streams(reference: Floats, rows: Floats, m: list[int]) -> Floats:
    """`ranks.count` for many streams without ties: [S, K] for rows [S, w] against references [S, n]."""
    edges = np.sort(reference, axis=1)[:, np.cumsum(m)[:-1] - 1]
    below = (rows[:, None, :] < edges[:, :, None]).sum(axis=2)
    ends = np.full((len(rows), 1), rows.shape[1])
    return np.diff(np.concatenate([0 * ends, below, ends], axis=1), axis=1).astype(np.float64)


def clean_path(
    bet: Bet, *, reference_rows: int, window: int, windows: int, streams: int, seed: int
) -> tuple[Floats, Wealth]:
    """log e after each window, [S, windows]."""
    rng = np.random.default_rng(seed)
    m = ranks.gaps(reference_rows, bet)
    reference = rng.random((streams, reference_rows))
    wealth = pager.new_wealth(m, bet, streams=(streams,))
    path = np.empty((streams, windows))
    for t in range(windows):
        wealth = wealth.update(count_streams(reference, rng.random((streams, window)), m))
        path[:, t] = wealth.log_e
    return path, wealth


def urn_chance(m: list[int], counts: tuple[int, ...]) -> float:
    """Probability of these counts from an urn of m."""
    log = math.lgamma(sum(counts) + 1) + math.lgamma(sum(m)) - math.lgamma(sum(m) + sum(counts))
    log += sum(
        math.lgamma(k + c) - math.lgamma(k) - math.lgamma(c + 1) for k, c in zip(m, counts, strict=True)
    )
    return math.exp(log)


def expected_e(wealth: Wealth, urn: list[int], windows: int, rows: int) -> float:
    """Sum over every possible stream of its probability times its e-value."""
    if windows == 0:
        return math.exp(wealth.log_e)
    total = 0.0
    for low, middle in itertools.product(range(rows + 1), repeat=2):
        if low + middle <= rows:
            counts = (low, middle, rows - low - middle)
            grown = [k + c for k, c in zip(urn, counts, strict=True)]
            total += urn_chance(urn, counts) * expected_e(wealth.update(counts), grown, windows - 1, rows)
    return total


@pytest.mark.parametrize("bet", BETS)
def test_the_expected_e_value_over_every_clean_stream_is_exactly_one(bet: Bet) -> None:
    m = [2, 3, 6]
    assert expected_e(pager.new_wealth(m, bet), m, windows=3, rows=4) == pytest.approx(1, abs=1e-12)


def test_it_stays_exactly_one_when_starts_are_cashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "MAX_STARTS", 2)
    m = [2, 3, 6]
    assert expected_e(pager.new_wealth(m, "down"), m, windows=4, rows=2) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("right", [0.0, 0.5, 0.9, 1.0])
def test_bins_of_clean_rows_follow_the_urn_whatever_ties(right: float) -> None:
    rng = np.random.default_rng(2)
    m, streams = [2, 3, 6], 8000
    seen: Counter[tuple[int, ...]] = Counter()
    for stream in range(streams):
        reference, rows = (rng.random(10) < right).astype(float), (rng.random(3) < right).astype(float)
        seen[tuple(ranks.count(reference, rows, m, reference_seed=2 * stream, seed=2 * stream + 1))] += 1
    outcomes = [(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)]
    expected = np.array([streams * urn_chance(m, counts) for counts in outcomes])
    found = np.array([seen[counts] for counts in outcomes])
    assert ((found - expected) ** 2 / expected).sum() < 33.7  # chi-square, 9 degrees of freedom, p = 1e-4


@pytest.mark.parametrize("bet", BETS)
def test_the_mean_e_value_of_simulated_clean_streams_is_one(bet: Bet) -> None:
    # Two windows: what tails win later is too rare and too large for a mean of ten thousand to be normal.
    path, _ = clean_path(bet, reference_rows=200, window=2, windows=2, streams=10_000, seed=1)
    won = np.exp(path)
    error = won.std(axis=0) / math.sqrt(len(won))
    assert (np.abs(won.mean(axis=0) - 1) < 4 * error).all()


def test_an_order_chosen_by_the_reference_would_not_be_exact() -> None:
    """Why class_mix keeps the manifest's order: frequency in a small reference is chance."""
    rng = np.random.default_rng(3)
    m = ranks.gaps(40, "down")
    won: dict[str, list[float]] = {"fixed": [], "by frequency": []}
    for stream in range(1000):
        reference, rows = rng.integers(0, 20, 40), rng.integers(0, 20, 60)
        place = np.argsort(np.argsort(np.bincount(reference, minlength=20)))
        for name, order in (("fixed", np.arange(20)), ("by frequency", place)):
            counts = ranks.count(
                order[reference].astype(float),
                order[rows].astype(float),
                m,
                reference_seed=stream,
                seed=-1 - stream & 0xFFFF_FFFF,
            )
            won[name].append(math.exp(pager.new_wealth(m, "down").update(counts).log_e))
    error = np.std(won["fixed"]) / math.sqrt(1000)
    assert abs(np.mean(won["fixed"]) - 1) < 4 * error
    assert np.mean(won["by frequency"]) > 1 + 8 * error


@pytest.mark.parametrize("reference_rows", [100, 300, 1000])
def test_a_clean_stream_of_100_windows_is_ever_paged_with_at_most_the_probability_that_was_promised(
    reference_rows: int,
) -> None:
    streams = 350
    path, _ = clean_path(
        "down", reference_rows=reference_rows, window=100, windows=100, streams=streams, seed=reference_rows
    )
    for alpha in (0.05, 0.01):
        ever = (path.max(axis=1) >= pager.page_line(alpha)).mean()
        assert ever <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / streams)


def test_a_hundred_reference_rows_bear_a_stream_a_hundred_times_longer() -> None:
    path, wealth = clean_path("down", reference_rows=20, window=50, windows=200, streams=50, seed=5)
    assert wealth.priors.shape == (50, pager.MAX_STARTS)
    assert (path.max(axis=1) >= pager.page_line(0.01)).mean() <= 0.06
    assert np.median(path[:, -1]) < 0


@pytest.mark.parametrize("bet", ["down", "both"])
def test_it_pages_a_shift_of_four_tenths_of_a_deviation_within_three_windows_of_200(bet: Bet) -> None:
    rng = np.random.default_rng(7)
    reference, m = rng.normal(size=500), ranks.gaps(500, bet)
    wealth, log_es = pager.new_wealth(m, bet), []
    for t in range(13):
        rows = rng.normal(size=200) - (0.4 if t >= 10 else 0)
        wealth = wealth.update(ranks.count(reference, rows, m, reference_seed=0, seed=t + 1))
        log_es.append(wealth.log_e)
    line = pager.page_line(0.01)
    assert max(log_es[:10]) < line <= log_es[-1]


def test_a_bettor_on_lower_values_wins_nothing_from_higher_ones() -> None:
    m = ranks.gaps(200, "down")
    rng = np.random.default_rng(0)
    counts = ranks.count(rng.normal(size=200), rng.normal(size=500) + 1, m, reference_seed=0, seed=1)
    assert pager.new_wealth(m, "down").update(counts).log_e < 0


def test_a_tenth_of_the_rows_in_the_lowest_twentieth_is_paged_within_three_windows_of_300() -> None:
    rng = np.random.default_rng(4)
    m, delays = ranks.gaps(1000, "down"), []
    for stream in range(10):
        reference, wealth, log_es = rng.random(1000), pager.new_wealth(m, "down"), []
        for t in range(13):
            rows = rng.random(300)
            rows[: 30 * (t >= 10)] *= 0.05
            wealth = wealth.update(ranks.count(reference, rows, m, reference_seed=stream, seed=t + 1))
            log_es.append(wealth.log_e)
        delays.append(np.argmax(np.array(log_es) >= pager.page_line(0.01)) - 9)
    assert min(delays) > 0
    assert max(delays) <= 3


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.01, 0.02])
def test_a_bet_on_a_known_share_is_fair_at_it_and_loses_below(rate: float) -> None:
    """The exact expectation over every number of failures among 40 requests."""
    expected = 0.0
    for failed in range(41):
        chance = math.comb(40, failed) * rate**failed * (1 - rate) ** (40 - failed)
        won = pager.new_wealth([1, 99], "rate").update([failed, 40 - failed])
        expected += chance * math.exp(won.log_e)
    assert expected == pytest.approx(1) if rate == 0.01 else (expected > 1) == (rate > 0.01)


def test_requests_at_the_tolerated_rate_are_ever_paged_with_at_most_the_promised_probability() -> None:
    rng = np.random.default_rng(6)
    failed = rng.binomial(100, 0.01, size=(100, 1000)).astype(np.float64)
    wealth, highest = pager.new_wealth([1, 99], "rate", streams=(1000,)), np.full(1000, -np.inf)
    for window in failed:
        wealth = wealth.update(np.stack([window, 100 - window], axis=-1))
        highest = np.maximum(highest, wealth.log_e)
    assert (highest >= pager.page_line(0.05)).mean() <= 0.05


def test_many_streams_at_once_are_the_same_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    m = [5, 10, 20, 10, 5]
    counts = rng.multinomial(20, [0.2] * 5, size=(40, 3))
    together = pager.new_wealth(m, "down", streams=(3,))
    alone = [pager.new_wealth(m, "down") for _ in range(3)]
    for window in counts:
        together = together.update(window.astype(float))
        alone = [one.update(list(row)) for one, row in zip(alone, window, strict=True)]
    assert np.allclose(together.log_e, [one.log_e for one in alone], rtol=1e-12)


def test_state_survives_json_to_the_last_bit_also_after_starts_were_cashed() -> None:
    rng = np.random.default_rng(0)
    wealth = pager.new_wealth([10] * 10, "any")
    for t in range(pager.MAX_STARTS + 5):
        kept = from_json(json.loads(json.dumps(to_json(wealth), allow_nan=False)))
        assert kept.log_e == wealth.log_e
        counts = rng.multinomial(30, [0.1] * 10).tolist()
        assert kept.update(counts).log_e == wealth.update(counts).log_e, t
        wealth = wealth.update(counts)
    assert np.isfinite(wealth.cash)


def test_cashing_a_start_neither_makes_nor_loses_wealth() -> None:
    wealth = pager.new_wealth([10] * 4, "down")
    for _ in range(pager.MAX_STARTS):
        wealth = wealth.update([3, 2, 2, 3])
    assert wealth._drop().log_e == pytest.approx(wealth.log_e, abs=1e-12)


def test_the_priors_of_all_starts_never_pass_one() -> None:
    wealth = replace(pager.new_wealth([1, 1], "down"), windows=0)
    s = np.arange(2, 200_000)
    assert (
        (1 / (pager.PRIOR_SUM * s * np.log(s) ** 2)).sum() + 1 / (pager.PRIOR_SUM * math.log(200_000))
        < 1
        == wealth.unspent
    )


def test_an_empty_window_changes_nothing() -> None:
    wealth = pager.new_wealth([2, 2], "down")
    assert wealth.update([0, 0]) is wealth
    assert wealth.log_e == 0


def test_counts_in_other_bins_are_refused() -> None:
    with pytest.raises(WealthMismatchError, match="3 bins, but the pager bets on 2"):
        pager.new_wealth([2, 2], "down").update([1, 1, 1])


def test_an_unknown_bet_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownBetError, match="down, up, both, any"):
        pager.new_wealth([2, 2], "sideways")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "state", [{}, {"format": 4}, {"format": 3}, {"format": 2}, {"format": 1, "m": [1]}, {"format": 1, "m": 3}]
)
def test_a_broken_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(StoredWealthError):
        from_json(state)


@pytest.mark.parametrize("rows", [1, 2, 7, 100, 999])
@pytest.mark.parametrize("bet", BETS)
def test_bins_hold_every_gap_and_none_is_empty(rows: int, bet: Bet) -> None:
    m = ranks.gaps(rows, bet)
    assert sum(m) == rows + 1
    assert min(m) >= 1


def test_the_combined_evidence_is_never_more_than_the_mean_of_the_e_values() -> None:
    rng = np.random.default_rng(0)
    for log_es in rng.normal(scale=3, size=(50, 4)).tolist():
        assert pager.combine(log_es) <= math.log(np.mean(np.exp(log_es))) + 1e-12


def test_the_expected_e_value_stays_exactly_one_over_strata() -> None:
    """Two strata, one row a window in each: every clean stream, with its probability."""
    m = [[2, 3], [1, 4]]

    def expected(wealth: Wealth, urns: list[list[int]], windows: int) -> float:
        if windows == 0:
            return math.exp(wealth.log_e)
        total = 0.0
        for first, second in itertools.product(range(2), repeat=2):
            chance = urns[0][first] / sum(urns[0]) * urns[1][second] / sum(urns[1])
            counts = np.zeros((2, 2))
            counts[0, first], counts[1, second] = 1, 1
            grown = [
                [k + int(c) for k, c in zip(*pair, strict=True)] for pair in zip(urns, counts, strict=True)
            ]
            total += chance * expected(wealth.update(counts), grown, windows - 1)
        return total

    for bet in BETS:
        assert expected(pager.new_wealth(m, bet), m, 4) == pytest.approx(1, abs=1e-12)


def test_strata_that_a_window_does_not_touch_keep_what_they_won() -> None:
    rng = np.random.default_rng(0)
    m = [ranks.gaps(60, "down") for _ in range(3)]
    step, whole = pager.new_wealth(m, "down"), pager.new_wealth(m, "down")
    for t in range(6):
        counts = np.zeros((3, len(m[0])))
        counts[t % 3] = rng.multinomial(40, np.array(m[0]) / sum(m[0]))
        step = step.update(counts)
        whole = replace(
            step,
            ratios=step._log_ratios(step.urn, np.arange(3)),
        )
        assert step.log_e == pytest.approx(whole.log_e, abs=1e-9)


def test_one_stratum_is_the_same_as_none() -> None:
    m = ranks.gaps(100, "up")
    counts = np.random.default_rng(1).multinomial(50, np.array(m) / sum(m))
    plain = pager.new_wealth(m, "up").update(counts.tolist())
    assert pager.new_wealth([m], "up").update(counts[None, :].astype(float)).log_e == plain.log_e


def test_strata_may_have_different_numbers_of_bins_and_survive_json() -> None:
    m = [ranks.gaps(100, "down"), ranks.gaps(5, "down"), [4]]
    wealth = pager.new_wealth(m, "down")
    counts = np.zeros((3, len(m[0])))
    counts[0, :3], counts[1, 2] = 5, 3
    after = wealth.update(counts)
    assert math.isfinite(after.log_e)
    assert from_json(json.loads(json.dumps(to_json(after)))).log_e == after.log_e


def test_a_state_of_an_earlier_release_keeps_its_wealth_and_wins_nothing_by_the_change() -> None:
    old = {
        "format": 1,
        "bet": "down",
        "m": [10, 10],
        "urn": [30, 10],
        "bases": [[10, 10]],
        "priors": [math.log(0.25)],
        "wealths": [2.0],
        "cash": None,
        "windows": 1,
        "unspent": 0.75,
    }
    read = from_json(old)
    assert read.log_e == pytest.approx(math.log(0.25 * math.exp(2) + 0.75))
    assert read.urn.tolist() == [[30, 10]]


def test_a_month_of_requests_fits_into_the_stored_state() -> None:
    wealth = pager.new_wealth([10_000, 990_000], "rate").update([20_000_000, 3_000_000_000])
    read = from_json(to_json(wealth))
    assert read.urn.tolist() == wealth.urn.tolist()
    assert read.update([0, 100]).log_e == wealth.update([0, 100]).log_e


def test_a_state_with_other_tilts_is_cashed_where_it_is_of_an_earlier_format_and_refused_otherwise() -> None:
    wealth = pager.new_wealth([10, 10], "down").update([15, 5])
    other = replace(wealth, ratios=np.concatenate([wealth.ratios, wealth.ratios], axis=-1))
    narrow = {name: _packed(getattr(other, name), "<i4") for name in ("urn", "bases")}
    read = from_json(to_json(other) | narrow | {"format": 2})
    assert read.log_e == pytest.approx(wealth.log_e)
    assert read.priors.size == 0
    assert math.isfinite(read.update([5, 5]).log_e)
    with pytest.raises(StoredWealthError, match="16 tilts instead of 8"):
        from_json(to_json(other))
