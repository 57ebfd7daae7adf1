from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.backlog import BULK_TURN, Backlog, Piece, Rank
from exporter.engines import Encoded
from exporter.machine import cores
from exporter.packing import ALONE, Packing, micro_batches, oldest_and_mates

PACKINGS = [ALONE, Packing(rows=16, tokens=512, reach=4), Packing(rows=128, tokens=1024, reach=0)]


@pytest.mark.parametrize("packing", PACKINGS)
def test_micro_batches_hold_every_text_once_within_the_limits(packing: Packing) -> None:
    draw = np.random.default_rng(0)
    for count in (0, 1, 7, 300):
        lengths = draw.integers(1, 130, size=count).tolist()
        batches = list(micro_batches(lengths, packing))
        assert sorted(position for batch in batches for position in batch) == list(range(count))
        for batch in batches:
            assert within(packing, [lengths[position] for position in batch])


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_oldest_text_is_in_the_next_micro_batch(packing: Packing) -> None:
    draw = np.random.default_rng(1)
    for count in (1, 2, 64):
        lengths = draw.integers(1, 130, size=count).tolist()
        chosen = oldest_and_mates(lengths, packing)
        assert 0 in chosen
        assert within(packing, [lengths[position] for position in chosen])


def within(packing: Packing, lengths: Sequence[int]) -> bool:
    if len(lengths) == 1:
        return True
    longest = max(lengths)
    return (
        len(lengths) <= packing.rows
        and len(lengths) * longest <= packing.tokens
        and (packing.reach > 0 or set(lengths) == {longest})
    )


class One:
    """What a backlog asks of an engine: nothing but who may share a micro-batch."""

    packing = ALONE


class Deployment:
    engine = One()


class Nobody:
    """A request that may be over."""

    def __init__(self, deployed: Any, *, over: bool = False) -> None:
        self.deployed, self.over = deployed, over


def piece(*, over: bool = False, deployed: Any = Deployment) -> Piece:
    asked: Any = (Nobody(deployed, over=over), 0)
    return Piece(deployed, Encoded([1], 1, truncated=False), asked, (0.0, 0.0))


def test_small_goes_before_bulk_and_bulk_has_its_turn() -> None:
    backlog = Backlog()
    small, bulk = [piece() for _ in range(2 * BULK_TURN)], [piece() for _ in range(3)]
    backlog.add(Rank.BULK, bulk)
    backlog.add(Rank.SMALL, small)
    taken = [backlog.take()[0] for _ in range(len(small) + len(bulk))]
    assert taken[:BULK_TURN] == small[:BULK_TURN]
    assert taken[BULK_TURN] is bulk[0]
    assert taken[BULK_TURN + 1 : 2 * BULK_TURN + 1] == small[BULK_TURN:]
    assert taken[2 * BULK_TURN + 1 :] == bulk[1:]


def test_what_nobody_waits_for_is_never_taken_and_leaves_no_trace() -> None:
    backlog = Backlog()
    gone, wanted = piece(over=True), piece()
    backlog.add(Rank.SMALL, [gone, wanted])
    backlog.again([[piece(over=True)]])
    assert backlog.asked_for() == 1
    assert backlog.take() == [wanted]
    assert not backlog.idle
    backlog.done()
    assert backlog.idle


def test_a_redirected_request_is_not_answered_by_whom_it_left() -> None:
    backlog = Backlog()
    left = piece()
    asked: Any = left.asked
    asked[0].deployed = object()
    backlog.add(Rank.SMALL, [left])
    backlog.close()
    assert backlog.take() == []


def test_a_closed_backlog_is_emptied_before_threads_end() -> None:
    backlog, taken = Backlog(), []
    waiting = threading.Thread(target=lambda: taken.extend([backlog.take(), backlog.take()]))
    waiting.start()
    last = piece()
    backlog.add(Rank.SMALL, [last])
    backlog.close()
    waiting.join(10)
    assert taken == [[last], []]


@pytest.mark.parametrize(
    ("content", "expected"),
    [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None), ("x y", None)],
)
def test_a_control_groups_quota_limits_the_sessions(
    tmp_path: Path, content: str, expected: int | None
) -> None:
    unlimited = cores(tmp_path / "none", tmp_path)
    (tmp_path / "cpu.max").write_text(content)
    assert cores(tmp_path / "cpu.max", tmp_path) == (unlimited if expected is None else expected)


def test_the_older_kind_of_control_group_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu.cfs_quota_us").write_text("100000\n")
    assert cores(tmp_path / "none", tmp_path) == 1
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    assert cores(tmp_path / "none", tmp_path) == cores(tmp_path / "none", tmp_path / "none")
