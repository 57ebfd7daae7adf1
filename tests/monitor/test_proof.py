from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from monitor.proof import (
    APART,
    FEWEST,
    FRESH_ROWS,
    JUDGED,
    MOST,
    apart,
    build_holdout,
    held_out,
    judged,
    proof_rows,
    release,
)  # fmt: skip
from trainer.rows import HoldoutRow


def rows(count: int) -> list[Any]:
    return [
        SimpleNamespace(
            id=f"p{number}", text=f"text {number}", truth="a", metadata={"channel": "mail", "user": 7}
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("labels", "proof"),
    [(0, 0), (1, 0), (40, 20), (2 * FEWEST, FEWEST), (400, FEWEST), (700, 210), (1000, MOST), (10**6, MOST)],
)
def test_proof_is_a_number_of_rows_not_a_share(labels: int, proof: int) -> None:
    assert proof_rows(labels, 0.3) == proof


def test_the_same_labels_hold_out_the_same_rows_in_whatever_order() -> None:
    given = rows(300)
    chosen = held_out(given, 0.3)
    assert len(chosen) == FEWEST
    assert [row.id for row in chosen] == [row.id for row in given if row in chosen]
    assert {row.id for row in held_out(given[::-1], 0.3)} == {row.id for row in chosen}


def test_more_labels_change_few_of_the_rows_that_were_proof() -> None:
    """A refused challenger's successor is judged on mostly the same rows: no drawing until one is lucky."""
    before = {row.id for row in held_out(rows(2000), 0.1)}
    after = {row.id for row in held_out(rows(2400), 0.1)}
    assert len(before & after) > 0.8 * len(before)


def test_recent_rows_alone_become_the_reference_once_there_are_enough() -> None:
    held = [HoldoutRow(text="old", label="a", in_reference=True)]
    for count, alone in ((FRESH_ROWS - 1, False), (FRESH_ROWS, True)):
        made = build_holdout(held, rows(count), [], 1000)
        assert made[0].in_reference is not alone
        assert [row.slice for row in made] == ["base"] + ["recent"] * count


def test_few_recent_rows_stay_out_of_a_cross_fitted_challenger() -> None:
    assert [len(apart(rows(count))) for count in (0, 100, 10_000)] == [0, round(100 * APART), MOST]


def test_cross_fitted_rows_are_parted_by_the_drift_and_bounded() -> None:
    given = [
        SimpleNamespace(id=f"p{seq}", text=f"text {seq}", truth="a", seq=seq) for seq in range(JUDGED + 300)
    ]
    chosen: Any = judged(cast(Any, given), since_seq=200)
    assert [row.seq for row in chosen.old] == list(range(200))
    assert len(chosen.recent) == JUDGED
    assert min(row.seq for row in chosen.recent) >= 200
    assert [row.text for row in chosen.rows] == [row.text for row in (*chosen.old, *chosen.recent)]
    assert not any(row.in_reference for row in chosen.rows)


def test_most_of_what_proved_the_parent_is_learnt_next_and_judges_nothing_again() -> None:
    base = [HoldoutRow(text=f"base {number}", label="a") for number in range(100)]
    quiet = [HoldoutRow(text="quiet", label=None, slice="recent")]
    proof = [HoldoutRow(text=f"proof {number}", label="b", slice="recent") for number in range(500)]
    kept, learnt = release([*base, *proof, *quiet])
    assert [row.text for row in kept] == [row.text for row in (*base, *proof, *quiet)]  # numbers stand
    assert kept[:100] == base
    assert kept[-1:] == quiet
    told = {row.text for row in kept if row.label is not None}
    assert told.isdisjoint(row.text for row in learnt)
    assert 350 < len(learnt) < 450
    assert {row.label for row in learnt} == {"b"}
    assert not any(row.in_reference for row in kept if row.text in {one.text for one in learnt})


def test_proof_keeps_the_slices_that_are_reported_and_nothing_else_of_its_metadata() -> None:
    made = build_holdout([], rows(3), [], 1000, ("channel", "desk"))
    assert {row.fields for row in made} == {("channel=mail",)}
