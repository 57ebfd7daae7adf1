"""Labelled texts: read with every fault named by file and line, kept as content-addressed snapshots."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from trainer.arrow_rows import Numbered
from trainer.cells import Cell
from trainer.dataset_folder import TRAIN, shards
from trainer.decoder import TASK as GENERATION
from trainer.errors import CellError, DataError
from trainer.tabular import parquet_bytes, parquet_records, records, write_bytes
from trainer.tasks import load

Origin = Literal["base", "traffic"]
Slice = Literal["base", "recent"]
ROW_COLUMNS = {"text": "string", "label": "string", "at": "float64", "origin": "string", "fields": "string"}
HOLDOUT_COLUMNS = {
    "text": "string", "label": "string", "in_reference": "bool", "slice": "string", "fields": "string"
}  # fmt: skip
MOST_CLASSES = 2000  # every answer records a score for each
FREE_TEXT = 50  # classes of which most have one row: somebody's own words
MEND_EMPTY = "Give at least two rows of each class."
MEND_PARQUET = "Delete it and write it again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One labelled text; `at` is seconds since 1970 UTC, `origin` says whether it came in as traffic."""

    text: str
    label: str
    at: float | None = None
    origin: Origin = "base"
    fields: tuple[str, ...] = ()  # "name=value" of the other columns that the spec names


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutRow:
    """One text that no training has seen; `in_reference` rows form the reference window."""

    text: str
    label: str | None
    in_reference: bool = True
    slice: Slice = "base"
    fields: tuple[str, ...] = ()


def read_rows(
    path: Path,
    *,
    text: str = "text",
    label: str = "label",
    slices: Sequence[str] = (),
    task: str = "classification",
    split: str = TRAIN,
) -> list[Row]:
    """Rows of a file, or of a split of a dataset folder, in its order; DataError names the first bad line."""
    files = files_of(path, split)
    read = partial(rows_of, text=text, label=label, slices=slices, task=task)
    rows = [row for file in files for row in read(records(file), file)]
    if not rows:
        problem = "it is empty" if path.is_file() and not path.stat().st_size else "it holds no rows"
        raise DataError(path, None, problem, MEND_EMPTY)
    return rows


def files_of(path: Path, split: str) -> list[Path]:
    """A file itself, or the files of a split of a dataset folder, in order. Raises DataError."""
    return [path] if path.suffix and not path.is_dir() else shards(path, split)


def fields_of(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The slices that a record belongs to, in the order of `names`; a missing or empty one gives none.

    >>> fields_of({"channel": "mail", "desk": None}, ["desk", "channel"])
    ('channel=mail',)
    """
    return tuple(f"{name}={record[name]}" for name in names if record.get(name) not in (None, ""))


def rows_of(
    numbered: Numbered,
    source: str | Path,
    *,
    text: str,
    label: str,
    task: str,
    slices: Sequence[str] = (),
) -> Iterator[Row]:
    """Rows of records; DataError names `source` and the first bad line."""
    parse = load(task).parse
    for line, record in numbered:
        for column in (text, label):
            if column not in record:
                there = ", ".join(str(name) for name in record) or "none"
                problem = f"column {column!r} is missing (there: {there})"
                raise DataError(source, line, problem, "Name it under [data] in the spec.")
        try:
            said, truth = parse(Cell(text, record[text]), Cell(label, record[label]))
        except CellError as error:
            raise DataError(source, line, error.problem, error.mend) from error
        yield Row(
            text=said,
            label=truth,
            at=time_of(source, line, record.get("at")),
            origin="traffic" if record.get("origin") == "traffic" else "base",
            fields=fields_of(record, slices),
        )


def check_rows(rows: Sequence[Row], path: str | Path, task: str = "classification") -> None:
    """Refuse data from which nothing can be learnt: fewer than two classes, a class with a single row, or a
    column that is no class at all."""
    names = load(task).names
    if not rows:
        raise DataError(path, None, "it holds no rows", MEND_EMPTY)
    if task == GENERATION:  # whose gate looks at answers
        return
    try:
        counts = Counter(name for row in rows for name in names(row.label))
    except ValueError as error:
        mend = f"Are these rows for [model] task = {task!r}?"
        raise DataError(path, None, f"a label is not one of the task: {error}", mend) from error
    if len({row.label for row in rows}) < 2:
        only = rows[0].label
        raise DataError(
            path, None, f"every row has the label {only!r}", "Add rows of at least one other class."
        )
    _check_number(len(counts), len(rows), sum(count == 1 for count in counts.values()), path)
    rare = min(counts, key=lambda name: (counts[name], name))
    if counts[rare] < 2:
        line = next(i for i, row in enumerate(rows, 1) if rare in names(row.label))
        raise DataError(
            path,
            None,
            f"class {rare!r} has a single row (row {line})",
            "Add rows of this class, or correct its label.",
        )


def _check_number(classes: int, rows: int, single: int, path: str | Path) -> None:
    free_text = classes > FREE_TEXT and 2 * single > classes
    if classes > MOST_CLASSES or free_text:
        told = f", {single} of them with a single row" if single else ""
        raise DataError(
            path,
            None,
            f"{rows} rows have {classes} classes{told}: that is no column of classes",
            f"Name the right column under [data] label; at most {MOST_CLASSES} classes can be learnt.",
        )


def write_snapshot(rows: Sequence[Row], folder: Path) -> tuple[Path, str]:
    """Write rows once as FOLDER/<sha256>.parquet; the same rows give the same name."""
    content = parquet_bytes([_stored(row) for row in rows], ROW_COLUMNS)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.parquet"
    if path.exists():
        path.touch()  # it is in use again: cleaning goes by age
    else:
        write_bytes(path, content)
    return path, digest


def read_snapshot(path: Path) -> list[Row]:
    """Rows of a snapshot; DataError if its content is not what its name says."""
    content = _file_bytes(path)
    if hashlib.sha256(content).hexdigest() != path.stem:
        raise DataError(path, None, "its content is not what its name says", "Restore it from a backup.")
    return [Row(**_loaded(record)) for record in parquet_records(content)]


def write_holdout(rows: Sequence[HoldoutRow], path: Path) -> None:
    """Write hold-out rows in order; the row number is their key in the `reference` table."""
    write_bytes(path, parquet_bytes([_stored(row) for row in rows], HOLDOUT_COLUMNS))


def read_holdout(path: Path) -> list[HoldoutRow]:
    """Hold-out rows of a parquet file; DataError where it is none."""
    content = _file_bytes(path)
    try:
        return holdout_from_bytes(content)
    except (ValueError, TypeError, OSError) as error:
        raise DataError(path, None, f"it is not a hold-out file ({error})", MEND_PARQUET) from error


def holdout_from_bytes(content: bytes) -> list[HoldoutRow]:
    """Hold-out rows from the bytes of a parquet file; ValueError, TypeError or OSError where it is none."""
    return [HoldoutRow(**_loaded(record)) for record in parquet_records(content)]


def _stored(row: Row | HoldoutRow) -> dict[str, Any]:
    return asdict(row) | {"fields": json.dumps(row.fields) if row.fields else None}


def _loaded(record: dict[str, Any]) -> dict[str, Any]:
    """A stored row; files that were written before rows had fields have none."""
    found = record.pop("fields", None)
    return record | {"fields": tuple(json.loads(found)) if found else ()}


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(path, None, f"it cannot be read ({error.strerror})", "Check the path.") from error


def time_of(path: str | Path, line: int, value: Any) -> float | None:
    """Seconds since 1970 UTC from a number or an ISO 8601 time; a time without zone is UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise DataError(
            path, line, f"at is {value!r}, not a time", "Write ISO 8601 or seconds since 1970."
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
