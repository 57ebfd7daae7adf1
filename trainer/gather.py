"""The rows that a spec names: of a file, a dataset folder, a query, or handed in by who has the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainer.dataset_folder import TRAIN, held_out
from trainer.decoder import TASK as GENERATION
from trainer.errors import DataError
from trainer.generation.stored import read_stored
from trainer.query import SOURCE, query_rows
from trainer.rows import Row, read_rows, rows_of
from trainer.spec import TrainSpec
from trainer.tagging import TASK as TAGGING
from trainer.tagging.rows import read_tagged


def gather(spec: TrainSpec, here: Path, recorded: Sequence[Row] | None) -> tuple[list[Row], str | Path]:
    """The rows of the source that the spec names, and its name in errors."""
    data, task = spec.data, spec.model.task
    if data.train is not None:
        path = here / data.train
        return _reader(spec)(path), path
    if data.sql is not None and data.database_url is not None:
        found = query_rows(data.database_url.get_secret_value(), data.sql)
        return list(
            rows_of(found, SOURCE, text=data.text, label=data.label, slices=data.slices, task=task)
        ), SOURCE
    source = f"the predictions of {data.recorded!r}"
    if recorded is None:
        raise DataError(source, None, "they are in a database", "Train with `trueup train SPEC`.")
    return list(recorded), source


def gather_holdout(spec: TrainSpec, here: Path) -> list[Row] | None:
    """The hold-out that the spec names or its dataset brings, None where it must be drawn."""
    data = spec.data
    read = _reader(spec)
    if data.holdout is not None:
        path = here / data.holdout
        return read(path, split=held_out(path) or TRAIN) if path.is_dir() else read(path)
    folder = here / data.train if data.train is not None else None
    split = held_out(folder) if folder is not None and folder.is_dir() else None
    return None if folder is None or split is None else read(folder, split=split)


def _reader(spec: TrainSpec) -> Callable[..., list[Row]]:
    """What reads a file, or a `split` of a folder, of the spec's task."""
    data = spec.data
    if spec.model.task == GENERATION:
        return partial(read_stored, form=spec.generation.form, slices=data.slices)
    if spec.model.task == TAGGING:
        return partial(
            read_tagged, text=data.text, label=data.label, slices=data.slices, on_finding=data.on_finding
        )
    return partial(read_rows, text=data.text, label=data.label, slices=data.slices, task=spec.model.task)
