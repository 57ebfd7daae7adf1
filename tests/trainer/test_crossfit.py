from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.crossfit import (
    FOLDS,
    Judged,
    OutOfFold,
    cut,
    out_of_fold,
    read_unseen,
    with_unseen,
    write_unseen,
)
from trainer.head import fit_head
from trainer.rows import HoldoutRow

TEXTS = [
    f"question number {number} about quite another matter of topic {7 * number}" for number in range(200)
]
rng = np.random.default_rng(2)
ROWS = rng.normal(size=(200, 300))
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
TRUTH = rng.integers(2, size=200)  # labels that nothing can predict, and a head can remember


def test_an_answer_is_that_of_a_head_which_was_trained_without_the_fold() -> None:
    judged = TEXTS[120:]
    found = out_of_fold(judged, TEXTS, ROWS, TRUTH, classes=2)
    assert found.rows.tolist() == list(range(80))
    assert set(found.folds) == set(range(FOLDS))
    without = np.array([row < 120 or found.folds[row - 120] != 0 for row in range(200)])
    head = fit_head(ROWS[without], TRUTH[without], classes=2)
    asked = np.flatnonzero(found.folds == 0)
    assert np.allclose(found.logits[asked], head.logits(ROWS[120 + asked]), atol=1e-4)


def test_what_a_head_only_remembers_proves_nothing() -> None:
    seen = fit_head(ROWS, TRUTH, classes=2).logits(ROWS).argmax(axis=1) == TRUTH
    found = out_of_fold(TEXTS, TEXTS, ROWS, TRUTH, classes=2)
    unseen = found.logits.argmax(axis=1) == TRUTH
    assert seen.mean() > 0.9
    assert unseen.mean() < 0.65


def test_a_text_that_comes_twice_is_out_of_its_fold_both_times() -> None:
    texts = [*TEXTS, *TEXTS]
    rows, truth = np.concatenate([ROWS, ROWS]), np.concatenate([TRUTH, TRUTH])
    found = out_of_fold(TEXTS, texts, rows, truth, classes=2)
    assert (found.logits.argmax(axis=1) == TRUTH).mean() < 0.65


def test_rows_that_are_not_learnt_are_judged_all_the_same_and_unknown_texts_are_not() -> None:
    truth = TRUTH.copy()
    truth[0] = -1
    found = out_of_fold(["never sent", *TEXTS[:40]], TEXTS, ROWS, truth, classes=2)
    assert found.rows.tolist() == list(range(1, 41))


def test_a_class_that_only_one_fold_holds_is_not_known_there() -> None:
    truth = TRUTH.copy()
    alone = cut(TEXTS) == 3
    truth[alone] = 2
    found = out_of_fold(TEXTS, TEXTS, ROWS, truth, classes=3)
    assert np.isneginf(found.logits[alone, 2]).all()
    assert np.isfinite(found.logits[~alone]).all()


def test_answers_come_back_with_the_scores_of_the_version(tmp_path: Path) -> None:
    rows = [HoldoutRow(text="a", label="yes"), HoldoutRow(text="b", label="never heard of")]
    judged = Judged(rows=rows, out=tmp_path / "unseen.parquet")
    found = OutOfFold(
        rows=np.array([0, 1]), folds=np.array([4, 0]), logits=np.array([[0.0, 2.0], [1.0, -np.inf]])
    )
    write_unseen(judged, found, ["no", "yes"], task="classification", temperature=2.0)
    first, second = read_unseen(judged.out)
    assert (first.row, first.fold, first.truth, first.label) == (0, 4, "yes", "yes")
    assert first.score == first.truth_score == pytest.approx(0.731, abs=1e-3)
    assert (second.label, second.score, second.truth_score) == ("no", 1.0, 0.0)
    logits, truth = with_unseen(np.zeros((0, 2)), np.zeros(0, dtype=int), found, judged, ["no", "yes"])
    assert (logits.tolist(), truth.tolist()) == ([[0.0, 2.0]], [1])
