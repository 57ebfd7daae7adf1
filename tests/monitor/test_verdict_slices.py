from __future__ import annotations

import math

import numpy as np
import pytest

from monitor.verdict import Pairs, harm_p, holm, judge_slices, slice_pairs
from monitor.verdict.rows import PairedRow, Said
from monitor.verdict.slices import frequent


def row(truth: str, champion: bool, challenger: bool, *slices: str) -> PairedRow:
    said = [
        Said(right, 0.9, 0.9 if right else 0.05, truth if right else "other")
        for right in (champion, challenger)
    ]
    return PairedRow(key="p", truth=truth, champion=said[0], challenger=said[1], slices=slices)


def pairs(lost: int, won: int, rows: int) -> Pairs:
    return Pairs(both=rows - lost - won, only_champion=lost, only_challenger=won, neither=0)


def test_equal_models_are_blocked_by_some_of_twenty_overlapping_slices_at_most_one_time_in_twenty() -> None:
    rng = np.random.default_rng(5)
    runs, blocked = 400, 0
    for _ in range(runs):
        truth = rng.integers(10, size=1000)
        won = rng.choice([-1, 0, 1], p=[0.05, 0.9, 0.05], size=1000)
        channel = rng.integers(5, size=1000)
        rows = [
            row(f"c{kind}", sign != 1, sign != -1, f"channel={way}", f"half={way % 2}")
            for kind, sign, way in zip(truth, won, channel, strict=True)
        ]
        blocked += not judge_slices(slice_pairs(rows[:600], rows[600:])).passed
    assert blocked / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_a_harm_in_one_slice_is_named_although_the_whole_gains() -> None:
    rows = [row("a", False, True, "channel=mail")] * 40 + [row("a", True, True, "channel=mail")] * 200
    rows += [row("b", True, False, "channel=chat")] * 12 + [row("b", True, True, "channel=chat")] * 50
    finding = judge_slices(slice_pairs(rows, []))
    assert not finding.passed
    assert "recent traffic, channel=chat (12 rows lost, 0 won of 62" in finding.reason
    assert "channel=mail" not in finding.reason


def test_a_gain_of_a_class_on_new_traffic_does_not_hide_its_loss_on_the_old() -> None:
    recent = [row("a", False, True)] * 40
    base = [row("a", True, False)] * 10 + [row("a", True, True)] * 50
    finding = judge_slices(slice_pairs(recent, base))
    assert not finding.passed
    assert "old traffic, class a" in finding.reason


def answered(truth: str, champion: str, challenger: str) -> PairedRow:
    said = [Said(label == truth, 0.9, 0.5, label) for label in (champion, challenger)]
    return PairedRow(key="p", truth=truth, champion=said[0], challenger=said[1])


def test_the_recall_of_a_class_that_answered_everything_on_new_traffic_may_go() -> None:
    rows = [answered("neutral", "neutral", "neutral")] * 40 + [answered("neutral", "neutral", "bad")] * 20
    rows += [answered("bad", "neutral", "bad")] * 60
    assert judge_slices(slice_pairs(rows, [])).passed
    finding = judge_slices(slice_pairs([], rows))  # on old traffic it may not
    assert "old traffic, class neutral (20 rows lost, 0 won of 60" in finding.reason


def test_a_class_that_another_swallows_is_harmed_on_new_traffic() -> None:
    rows = [answered("good", "good", "bad")] * 40 + [answered("bad", "neutral", "bad")] * 60
    finding = judge_slices(slice_pairs(rows, []))
    assert "recent traffic, class good (40 rows lost, 0 won of 40" in finding.reason


@pytest.mark.parametrize(("rows", "tested"), [(29, 0), (30, 1)])
def test_slices_with_fewer_than_thirty_rows_are_not_tested(rows: int, tested: int) -> None:
    slices = slice_pairs([row("a", True, False)] * rows, [])
    assert len(slices) == tested
    assert judge_slices(slices).passed is not bool(tested)


def test_the_number_of_slices_is_bounded_whatever_clients_send() -> None:
    rows = [row("a", True, True, *(f"key{n}=x" for n in range(16)))] * 50
    assert len(slice_pairs(rows, rows)) == 10 + 2
    assert len(frequent([{f"key{n}": 1 for n in range(30)}] * 40)) == 10
    assert frequent([{"request": n, "channel": None} for n in range(1000)]) == []


def test_holm_keeps_the_order_of_the_slices_and_never_falls() -> None:
    assert holm([0.04, 0.001, 0.02]) == pytest.approx([0.04, 0.003, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("lost", "won"), [(5, 0), (8, 1), (3, 3), (0, 5), (260, 200)])
def test_the_harm_test_is_the_exact_binomial_tail(lost: int, won: int) -> None:
    tail = sum(math.comb(lost + won, k) for k in range(lost, lost + won + 1)) / 2 ** (lost + won)
    assert harm_p(lost, won) == pytest.approx(tail, rel=1e-9)


def test_one_slice_more_makes_a_borderline_harm_unproven() -> None:
    alone = {"one": pairs(5, 0, 40)}
    assert not judge_slices(alone).passed
    assert judge_slices(alone | {"other": pairs(0, 0, 40)}).passed
