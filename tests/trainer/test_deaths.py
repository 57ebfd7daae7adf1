"""Killed at every named point in turn, a training still ends in the version that it would have made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.conftest import fit_toy
from tests.trainer.dying_trainer import POINTS
from trainer.artifact import TRAINED, open_version
from trainer.fitting.checkpoint import beside
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.spec import TrainSpec
from trainer.train import write_request

# Every point, at a different step; the steps of before are never taken again.
DEATHS = [
    "step:2:INT", "data", "embedding", "learning-rate", "step:3", "step:2:TERM", "tensors:2", "facts:2",
    "manifest:2", "rename:2", "forget:2", "export", "seal:2", "sealed",
]  # fmt: skip


@pytest.fixture
def spec(spec_for: Callable[..., TrainSpec]) -> TrainSpec:
    """A checkpoint after every step, and everything on that has a state."""
    return spec_for(epochs=4, checkpoint_every_s=0, patience=4, neftune_alpha=1.0, schedule="cosine")


def test_every_death_is_survived_and_nothing_changes(
    spec: TrainSpec, rows: list[Row], tmp_path: Path
) -> None:
    snapshot, digest = write_snapshot(rows[:40], tmp_path)
    held = [HoldoutRow(text=row.text, label=row.label) for row in rows[40:]]
    write_holdout(held, tmp_path / "h.parquet")
    request, out = tmp_path / "request.json", tmp_path / "version"
    write_request(
        request,
        spec,
        train=snapshot,
        holdout=tmp_path / "h.parquet",
        sha256=digest,
        parent=None,
        cache=tmp_path / "cache",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tests.trainer.dying_trainer", str(request), str(out), *DEATHS],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    attempts = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {attempt["point"] for attempt in attempts} == {*POINTS, ""}
    assert [attempt["status"] for attempt in attempts] == [4, -9, -9, -9, -9, 3, *[-9] * 8, 0]
    assert [attempt["sealed"] for attempt in attempts] == [*[False] * 13, True, True]
    newest = [max(attempt["checkpoints"], default="") for attempt in attempts]
    assert newest[0] == ""  # cancelled: nothing is kept
    assert newest[4:13] == sorted(newest[4:13])
    assert newest[4] < newest[5]  # paused: the step in hand was finished and kept
    assert not beside(out).exists()
    again = fit_toy(spec, rows[:40], tmp_path / "undisturbed")
    assert (open_version(out).path / TRAINED).read_bytes() == again.files[TRAINED]
