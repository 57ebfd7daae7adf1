"""Several processes that share every batch learn what one learns, and survive the loss of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.trainer.conftest import fit_toy
from trainer.artifact import TRAINED
from trainer.errors import FleetError
from trainer.rows import Row
from trainer.spec import TrainSpec

SpecFor = Callable[..., TrainSpec]
FIT: dict[str, Any] = {"rung": "layers", "epochs": 2, "learning_rate": 3e-3, "precision": "fp32"}


def followers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [one for one in children if "trainer.fitting.fleet" in one.cmdline()]


def test_two_processes_learn_what_one_learns(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    made = [
        fit_toy(
            spec_for(processes=number, dropout=0.0, anchor=0.1, replay=0.0, **FIT),
            rows[:-3],  # the last batch has an odd number of rows
            tmp_path / str(number),
        )
        for number in (1, 2)
    ]
    assert np.abs(made[0].head.weight - made[1].head.weight).max() < 1e-4
    assert np.abs(made[0].embeddings - made[1].embeddings).max() < 1e-4
    assert not followers()


def test_a_lost_process_ends_the_training_which_goes_on_bit_by_bit(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for(processes=2, checkpoint_every_s=0, **FIT)
    killed: list[psutil.Process] = []

    def kill_one(done: int, of: int, message: str) -> None:
        if message == "layers" and done == 5 and not killed:
            killed.extend(followers())
            os.kill(killed[0].pid, signal.SIGKILL)

    with pytest.raises(FleetError, match="Train again"):
        fit_toy(spec, rows, tmp_path / "killed", say=kill_one)
    assert len(killed) == 1
    said: list[str] = []
    resumed = fit_toy(spec, rows, tmp_path / "killed", say=lambda _, __, message: said.append(message))
    whole = fit_toy(spec, rows, tmp_path / "whole")
    assert "layers: resumed at step 5" in said
    assert resumed.files[TRAINED] == whole.files[TRAINED]
