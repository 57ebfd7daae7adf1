"""A first version, from a spec: rows read and snapshotted, trained in a child process, registered."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from exporter import registry
from exporter.settings import Device, Precision
from monitor.child import run_trainer
from monitor.recorded import recorded_rows
from trainer.artifact import Manifest
from trainer.decoder.sealed import open_sealed
from trainer.fitting.checkpoint import folder_of
from trainer.rows import write_holdout, write_snapshot
from trainer.settings import TrainerSettings
from trainer.spec import TrainSpec
from trainer.split import prepare
from trainer.train import write_request

_SHOW_EVERY_S = 0.5
Progress = Callable[[dict[str, Any]], None]


def train_version(
    db: Engine,
    home: Path,
    spec: TrainSpec,
    spec_path: Path,
    *,
    trainer: TrainerSettings,
    progress: Progress,
    device: Device = "cpu",
    precision: Precision = "auto",
    now: float | None = None,
) -> tuple[str, Manifest]:
    """Train what `spec` says and register it; returns its name and manifest.

    `now` is the registration's time, by default this machine's clock. Raises TrainerError, TrainingDied.
    """
    rows, holdout = prepare(spec, spec_path, recorded=recorded_rows(db, spec.data))
    folder = home / "jobs" / f"train-{secrets.token_hex(6)}"
    folder.mkdir(parents=True)
    try:
        snapshot, digest = write_snapshot(rows, home / "data")
        write_holdout(holdout, folder / "holdout.parquet")
        request = folder / "request.json"
        write_request(
            request,
            spec,
            train=snapshot,
            holdout=folder / "holdout.parquet",
            sha256=digest,
            parent=None,
            cache=trainer.cache,
            checkpoints=folder_of(home, spec, digest),
        )
        made = run_trainer(
            request,
            folder / "version",
            log=folder / "trainer.log",
            beat=lambda line: progress(line) if line else None,
            every_s=_SHOW_EVERY_S,
        )
        progress({"stage": "register", "done": 0, "total": 1})
        manifest = open_sealed(made).manifest
        version = registry.register(
            db,
            home,
            made,
            threads=trainer.threads,
            now=time.time() if now is None else now,
            device=device,
            precision=precision,
        )
        progress({"stage": "register", "done": 1, "total": 1})
        return version, manifest
    finally:
        shutil.rmtree(folder, ignore_errors=True)
