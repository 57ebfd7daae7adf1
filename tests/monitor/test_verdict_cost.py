from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from monitor.verdict import Cost, judge_cost, measure
from tests.exporter.versions import build_version
from trainer.artifact import open_version


def cost(champion_ms: tuple[float, ...], challenger_ms: tuple[float, ...], sizes: tuple[int, int]) -> Cost:
    return Cost(
        texts=8,
        champion_ms=champion_ms,
        challenger_ms=challenger_ms,
        champion_bytes=sizes[0],
        challenger_bytes=sizes[1],
    )


@pytest.mark.parametrize(
    ("given", "passed", "said"),
    [
        (cost((2.0, 2.1), (2.9, 3.0), (100, 100)), True, "latency × 1.45"),
        (cost((2.0, 2.1), (3.1, 3.2), (100, 100)), False, "Too costly"),
        (cost((2.0, 2.0), (2.0, 9.0), (100, 100)), True, "latency × 1.00"),  # one stalled round
        (cost((2.0,), (2.0,), (100, 151)), False, "size × 1.51"),
        (cost((2.0,), (1.0,), (100, 50)), True, "latency × 0.50, size × 0.50"),
        (Cost(), True, "not measured"),
    ],
)
def test_a_challenger_may_cost_half_as_much_again(given: Cost, passed: bool, said: str) -> None:
    finding = judge_cost(given)
    assert finding.passed is passed
    assert said in finding.reason


def test_both_engines_answer_the_same_texts_in_turns(tmp_path: Path) -> None:
    champion = open_version(build_version(tmp_path / "one"))
    challenger = open_version(build_version(tmp_path / "two", labels=("yes", "no"), seed=1))
    ticks = itertools.accumulate(itertools.chain([0.0], itertools.cycle([1.0, 5.0, 2.0, 5.0])))
    found = measure(champion, challenger, ["a card"] * 50, threads=1, clock=lambda: next(ticks))
    assert found.texts == 13
    assert found.champion_ms == pytest.approx((1000 / 13,) * 5, abs=1e-3)
    assert found.challenger_ms == pytest.approx((2000 / 13,) * 5, abs=1e-3)
    assert found.champion_bytes == (tmp_path / "one" / "model.onnx").stat().st_size
    assert found.challenger_bytes < found.champion_bytes


def test_a_real_clock_gives_real_times_and_no_texts_give_none(tmp_path: Path) -> None:
    version = open_version(build_version(tmp_path / "one"))
    found = measure(version, version, [row.text for row in version.holdout], threads=1)
    assert len(found.champion_ms) == len(found.challenger_ms) == 5
    assert min(found.champion_ms + found.challenger_ms) > 0
    assert measure(version, version, [], threads=1).texts == 0
