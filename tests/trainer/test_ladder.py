"""Where a training starts and how deep it goes: from its parent, up the ladder, through a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.conftest import fit_toy
from trainer.artifact import RANGE_TEST, TRAINED, Version, open_version
from trainer.encoder import load_encoder
from trainer.errors import VersionRefusedError
from trainer.fitting.ladder import better_mid_p
from trainer.fitting.weights import start_of
from trainer.rows import HoldoutRow, Row
from trainer.spec import TrainSpec
from trainer.train import DataRef, Parent, train

SpecFor = Callable[..., TrainSpec]


def _version(spec: TrainSpec, rows: list[Row], out: Path, parent: Path | None = None) -> Version:
    made = train(
        spec,
        train_rows=rows,
        holdout=[HoldoutRow(text=row.text + " the", label=row.label) for row in rows[:20]],
        data=DataRef(sha256="2" * 64, rows=len(rows), path=out.parent / "toy.parquet"),
        out=out,
        cache=out.parent / "cache",
        parent=None if parent is None else Parent(name="v1", folder=parent),
        progress=lambda _: None,
        now=0.0,
    )
    return open_version(made)


def test_a_retrain_starts_from_what_its_parent_learnt(
    spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    first = _version(spec_for(batch_size=2, epochs=2), rows * 2, tmp_path / "first")
    assert {TRAINED, RANGE_TEST} <= set(first.manifest.files)
    assert (first.path / RANGE_TEST).read_bytes().startswith(b"\x89PNG")
    gap = first.manifest.metrics["fit"]
    assert gap["overfitting"].startswith("train ")
    assert gap["gap"] == pytest.approx(
        gap["train"]["accuracy"] - first.manifest.metrics["accuracy"], abs=1e-4
    )

    head = _version(spec_for(rung="head"), rows, tmp_path / "head", first.path)
    assert head.manifest.files[TRAINED] == first.manifest.files[TRAINED]
    started = start_of(base, head).encoder().state_dict()
    untaught = load_encoder(base).state_dict()
    assert any(not part.equal(untaught[name]) for name, part in started.items())

    new = [Row(text=row.text.replace("iron", "plum"), label="alloy") for row in rows[:20]]
    spec = spec_for(start="parent", anchor=1.0, learning_rate=1e-5)
    again = fit_toy(spec, [*new, *rows[:2]], tmp_path / "again", parent=head)
    assert again.labels == ["alloy", "fruit", "metal"]  # anchored: the parent's classes stay
    kept = again.encoder.state_dict()
    distance = max(float((kept[name] - part).abs().max()) for name, part in started.items())
    assert distance < 1e-3


def test_a_parent_whose_weights_were_not_kept_is_refused(
    spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    parent = _version(spec_for(keep_weights=False), rows, tmp_path / "first")
    assert TRAINED not in parent.manifest.files
    with pytest.raises(VersionRefusedError, match="keep_weights"):
        start_of(base, parent)


def test_without_enough_validation_rows_auto_takes_the_head_and_says_why(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    made = _version(spec_for(rung="auto"), rows, tmp_path / "version")
    assert made.manifest.rung == "head"
    assert made.manifest.metrics["fit"]["why"].startswith("not enough data")
    assert made.manifest.metrics["trained_rows"] == len(rows)


def test_auto_ends_at_the_rung_that_the_next_one_does_not_beat(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    report = fit_toy(spec_for(rung="auto", validation_share=0.5), rows, tmp_path).report
    assert [one["rung"] for one in report["rungs"]] == ["head", "layers"]
    assert report["rung"] == "head"
    assert report["why"].startswith("layers is not significantly better")
    assert {"seconds", "trained_parameters", "validation", "better_mid_p"} <= set(report["rungs"][1])


def test_auto_climbs_while_the_next_rung_is_significantly_better(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.fitting.ladder.better_mid_p", lambda *_: 0.01)
    report = fit_toy(spec_for(rung="auto", validation_share=0.5), rows, tmp_path).report
    assert [one["rung"] for one in report["rungs"]] == ["head", "layers", "adapter", "full"]
    assert (report["rung"], report["why"]) == ("full", "it is the last rung")


def test_the_comparison_needs_more_wins_than_chance_gives() -> None:
    ours = np.zeros(40, dtype=bool)
    theirs = ours.copy()
    theirs[:4] = True
    assert better_mid_p(ours, theirs) == pytest.approx(1 / 32)
    theirs[3:] = False
    assert better_mid_p(ours, theirs) == pytest.approx(1 / 16)


def test_a_search_keeps_the_trial_with_the_lowest_validation_loss(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    spec = spec_for(search_trials=3, validation_share=0.3)
    first = fit_toy(spec, rows, tmp_path)
    trials = first.report["trials"]
    best = min(trials, key=lambda trial: trial["validation_loss"])
    assert len(trials) == 3
    assert first.report["learning_rate"] == best["learning_rate"]
    again = fit_toy(spec, rows, tmp_path)  # every trial is replayed from its checkpoint
    assert again.files[TRAINED] == first.files[TRAINED]
