"""Trackers of training runs, by one line: `[fit] tracker = "mlflow:http://…"`, "wandb:PROJECT", "trackio:…".

What follows the colon is MLflow's tracking address, or the project of the other two; it may be left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainer.errors import TrackerError

Track = Callable[[dict[str, float], int], None]  # (figures, step)


@contextmanager
def tracked(line: str | None, run: str, settings: dict[str, Any]) -> Iterator[Track]:
    """A run of the named tracker, ended with the block; without one, figures go nowhere. TrackerError."""
    if line is None:
        yield lambda _, __: None
        return
    name, _, where = line.partition(":")
    try:
        library = importlib.import_module(name)
        track = (_mlflow if name == "mlflow" else _wandb)(library, where, run, settings)
    except Exception as error:  # whatever a tracker's client raises where it cannot begin
        raise TrackerError(name, f"{type(error).__name__}: {str(error)[:200]}") from error
    try:
        yield track
    finally:
        (library.end_run if name == "mlflow" else library.finish)()


def _mlflow(mlflow: Any, where: str, run: str, settings: dict[str, Any]) -> Track:
    if where:
        mlflow.set_tracking_uri(where)
    mlflow.set_experiment("trueup")
    mlflow.start_run(run_name=run)
    mlflow.log_params(settings)
    return lambda figures, step: mlflow.log_metrics(figures, step=step)


def _wandb(library: Any, where: str, run: str, settings: dict[str, Any]) -> Track:
    """Weights & Biases; trackio has the same three functions."""
    library.init(project=where or "trueup", name=run, config=settings)
    return lambda figures, step: library.log(figures, step=step)
