from __future__ import annotations

import numpy as np
import pytest

from monitor.verdict import judge_calibration
from monitor.verdict.calibration import gaps
from monitor.verdict.rows import PairedRow, Said
from trainer.calibrate import ece


def said(ok: bool, score: float) -> Said:
    return Said(ok, score, score if ok else 1 - score, "a" if ok else "b")


def rows(n: int, *, excess: float, seed: int = 3) -> list[PairedRow]:
    """Equally right models; the challenger's score is `excess` too high, the champion's is honest."""
    rng = np.random.default_rng(seed)
    honest = rng.uniform(0.5, 0.8, size=n)
    right = rng.random(n) < honest
    return [
        PairedRow(
            key=str(number),
            truth="a",
            champion=Said(bool(ok), score, score if ok else 1 - score, "a" if ok else "b"),
            challenger=Said(
                bool(ok), score + excess, score + excess if ok else 1 - score - excess, "a" if ok else "b"
            ),
        )
        for number, (ok, score) in enumerate(zip(right, honest.tolist(), strict=True))
    ]


def test_with_few_rows_calibration_is_not_enough_data_and_refuses_nobody() -> None:
    finding = judge_calibration(rows(99, excess=0.2))
    assert finding.passed
    assert "not enough data, 99 of 100" in finding.reason


@pytest.mark.parametrize("seed", range(5))
def test_the_same_scores_are_no_finding(seed: int) -> None:
    finding = judge_calibration(rows(150, excess=0.0, seed=seed))
    assert finding.passed
    assert finding.reason.startswith("Calibration: error")


def test_scores_twenty_points_too_high_refuse() -> None:
    finding = judge_calibration(rows(400, excess=0.2))
    assert not finding.passed
    assert "Calibration lost" in finding.reason
    assert finding.numbers["challenger_nll"] > finding.numbers["champion_nll"]


def test_a_clear_loss_within_the_limit_is_said_and_does_not_refuse() -> None:
    finding = judge_calibration(rows(20_000, excess=0.04))
    assert finding.passed
    assert finding.reason.startswith("Clearly worse calibrated")


def test_the_gaps_average_to_the_trainers_own_calibration_error() -> None:
    rng = np.random.default_rng(0)
    top, right = rng.uniform(0.5, 1, size=300), rng.random(300) < 0.7
    scores = np.column_stack([top, 1 - top])
    expected = ece(scores, np.where(right, 0, 1))
    assert gaps(top, right.astype(float)).mean() == pytest.approx(expected)
