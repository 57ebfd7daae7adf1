"""Checkpoints: resumed bit by bit, torn ones skipped, others' refused, the disk full."""

from __future__ import annotations

import itertools
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.conftest import fit_toy
from trainer.artifact import TRAINED
from trainer.errors import BudgetError, CheckpointError, PausedError
from trainer.fitting.checkpoint import Checkpoints, Identity, folder_of
from trainer.rows import Row
from trainer.spec import TrainSpec

SpecFor = Callable[..., TrainSpec]
STATEFUL = {"epochs": 2, "checkpoint_every_s": 0, "patience": 2, "neftune_alpha": 2.0}
IDENTITY = Identity(data="d", spec="s", base="b", libraries="l")


class Told:
    """What a training says, and a pause at a step of it."""

    def __init__(self, pause_at: int | None = None) -> None:
        self.steps: list[int] = []
        self.messages: list[str] = []
        self._pause_at = pause_at

    def __call__(self, done: int, total: int, message: str) -> None:
        if message in {"layers", "adapter", "full"}:
            self.steps.append(done)
            if done == self._pause_at:
                raise PausedError
        else:
            self.messages.append(message)


@pytest.mark.parametrize("rung", ["layers", "adapter", "full"])
def test_a_paused_training_goes_on_where_it_stood_and_ends_with_the_same_bits(
    rung: str, spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for(rung=rung, **(STATEFUL | {"checkpoint_every_s": 60}))
    whole = fit_toy(spec, rows[:40], tmp_path / "whole")
    with pytest.raises(PausedError):
        fit_toy(spec, rows[:40], tmp_path / "paused", say=Told(pause_at=7))
    told = Told()
    resumed = fit_toy(spec, rows[:40], tmp_path / "paused", say=told)
    assert told.steps[0] == 8
    assert any("resumed at step 7" in message for message in told.messages)
    assert resumed.files[TRAINED] == whole.files[TRAINED]
    assert resumed.head.weight.tobytes() == whole.head.weight.tobytes()


@pytest.fixture
def paused(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> Path:
    """Checkpoints of a training that was paused at its sixth step; the newest two are kept."""
    with pytest.raises(PausedError):
        fit_toy(spec_for(**STATEFUL), rows[:40], tmp_path / "paused", say=Told(pause_at=6))
    kept = tmp_path / "paused" / "adapter"
    assert [one.name for one in sorted(kept.glob("step-*"))] == ["step-000000005", "step-000000006"]
    assert {one.suffix for one in kept.rglob("*") if one.is_file()} == {".safetensors", ".json"}
    return tmp_path / "paused"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("file", "spoil"),
    [
        ("manifest.json", Path.unlink),
        ("facts.json", Path.unlink),
        ("tensors.safetensors", _cut),
        ("tensors.safetensors", _flip),
    ],
)
def test_a_torn_checkpoint_is_skipped_and_said(
    file: str, spoil: Callable[[Path], None], spec_for: SpecFor, rows: list[Row], paused: Path
) -> None:
    spoil(paused / "adapter" / "step-000000006" / file)
    told = Told()
    resumed = fit_toy(spec_for(**STATEFUL), rows[:40], paused, say=told)
    assert told.steps[0] == 6
    assert "adapter: resumed at step 5, 1 torn checkpoints skipped" in told.messages
    assert resumed.report["torn_checkpoints"] == ["step-000000006"]
    whole = fit_toy(spec_for(**STATEFUL), rows[:40], paused.parent / "whole")
    assert resumed.files[TRAINED] == whole.files[TRAINED]


def test_other_data_or_another_spec_are_refused_and_what_is_operational_is_not(
    spec_for: SpecFor, rows: list[Row], paused: Path
) -> None:
    changed = [replace(rows[0], text="another text"), *rows[1:]]
    with pytest.raises(CheckpointError, match=r"another data\. Delete .*paused"):
        fit_toy(spec_for(**STATEFUL), changed[:40], paused)
    with pytest.raises(CheckpointError, match="another spec"):
        fit_toy(spec_for(**STATEFUL, batch_size=16), rows[:40], paused)
    told = Told()
    fit_toy(
        spec_for(**(STATEFUL | {"checkpoint_every_s": 5, "budget_s": 900.0})), rows[:40], paused, say=told
    )
    assert told.steps[0] == 7


def test_a_finished_training_is_not_trained_again(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    first = fit_toy(spec_for(**STATEFUL), rows[:40], tmp_path)
    told = Told()
    again = fit_toy(spec_for(**STATEFUL), rows[:40], tmp_path, say=told)
    assert told.steps == []
    assert again.files[TRAINED] == first.files[TRAINED]


def test_a_full_disk_is_named_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    import torch

    kept = Checkpoints(tmp_path, IDENTITY)
    kept.save(1, {"x": torch.ones(4)}, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the kernel then cuts a write short
    try:
        with pytest.raises(CheckpointError, match=r"File too large.*older checkpoints are as they were"):
            kept.save(2, {"x": torch.ones(40_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [one.name for one in tmp_path.iterdir()] == ["step-000000001"]
    found = kept.newest()
    assert found is not None
    assert found[1] == {"step": 1}


def test_what_a_death_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    import torch

    (tmp_path / ".step-000000001.77").mkdir(parents=True)
    kept = Checkpoints(tmp_path, IDENTITY)
    assert kept.newest() is None
    kept.save(1, {"x": torch.ones(1)}, {})
    assert [one.name for one in tmp_path.iterdir()] == ["step-000000001"]


def test_a_budget_smaller_than_one_step_is_refused(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"fit\.budget_s: 1e-06 s is less than one step"):
        fit_toy(spec_for(budget_s=1e-6), rows[:40], tmp_path)


def test_a_reached_budget_keeps_the_best_so_far_and_says_so(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    seconds = itertools.count()
    told, spec = Told(), spec_for(epochs=9, patience=9, budget_s=30.0, checkpoint_every_s=900)
    made = fit_toy(spec, rows[:40], tmp_path, say=told, clock=lambda: float(next(seconds)))
    assert made.report["stopped"] == "budget"
    assert made.report["steps"] < made.report["steps_planned"]
    assert made.report["kept_step"] <= made.report["steps"]
    assert any("budget reached" in message for message in told.messages)


def test_checkpoints_of_one_spec_on_one_snapshot_share_a_folder(spec_for: SpecFor, tmp_path: Path) -> None:
    first = folder_of(tmp_path, spec_for(), "1" * 64)
    assert first == folder_of(tmp_path, spec_for(), "1" * 64)
    assert (
        len({first, folder_of(tmp_path, spec_for(seed=1), "1" * 64), folder_of(tmp_path, spec_for(), "2")})
        == 3
    )
    shutil.rmtree(tmp_path)
