"""Labelled texts: read with every fault named by file and line, kept as content-addressed snapshots."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from trainer.errors import DataError
from trainer.tabular import parquet_bytes, parquet_records, records, write_bytes

Origin = Literal["base", "traffic"]
Slice = Literal["base", "recent"]
ROW_COLUMNS = {"text": "string", "label": "string", "at": "float64", "origin": "string", "fields": "string"}
HOLDOUT_COLUMNS = {
    "text": "string", "label": "string", "in_reference": "bool", "slice": "string", "fields": "string"
}  # fmt: skip
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
    path: Path, *, text: str = "text", label: str = "label", slices: Sequence[str] = ()
) -> list[Row]:
    """Rows of a .jsonl, .csv or .parquet file, in its order; DataError names the first bad line."""
    rows = [
        replace(_row(path, line, record, text, label), fields=fields_of(record, slices))
        for line, record in records(path)
    ]
    if not rows:
        raise DataError(path, None, "it holds no rows", "Give at least two rows of each class.")
    return rows


def fields_of(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The slices that a record belongs to, in the order of `names`; a missing or empty one gives none.

    >>> fields_of({"channel": "mail", "desk": None}, ["desk", "channel"])
    ('channel=mail',)
    """
    return tuple(f"{name}={record[name]}" for name in names if record.get(name) not in (None, ""))


def check_rows(rows: Sequence[Row], path: str | Path) -> None:
    """Refuse data from which nothing can be learnt: fewer than two classes, or a class with a single row."""
    counts = Counter(row.label for row in rows)
    if not counts:
        raise DataError(path, None, "it holds no rows", "Give at least two rows of each class.")
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataError(
            path, None, f"every row has the label {only!r}", "Add rows of at least one other class."
        )
    rare = min(counts, key=lambda name: (counts[name], name))
    if counts[rare] < 2:
        line = next(i for i, row in enumerate(rows, 1) if row.label == rare)
        raise DataError(
            path,
            None,
            f"class {rare!r} has a single row (row {line})",
            "Add rows of this class, or correct its label.",
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


def _row(path: Path, line: int, record: dict[str, Any], text: str, label: str) -> Row:
    return Row(
        text=_string(path, line, record, text),
        label=_string(path, line, record, label).strip(),
        at=_time(path, line, record.get("at")),
        origin="traffic" if record.get("origin") == "traffic" else "base",
    )


def _string(path: Path, line: int, record: dict[str, Any], column: str) -> str:
    if column not in record:
        there = ", ".join(str(name) for name in record) or "none"
        raise DataError(
            path, line, f"column {column!r} is missing (there: {there})", "Name it under [data] in the spec."
        )
    value = record[column]
    if value is None or (isinstance(value, float) and math.isnan(value)) or value in {"nan", "NaN"}:
        raise DataError(path, line, f"{column} is missing (null or NaN)", "Fill it in or remove the row.")
    if not isinstance(value, str):
        raise DataError(path, line, f"{column} is {value!r}, not a string", "Write it in quotes.")
    if not value.strip():
        raise DataError(path, line, f"{column} is empty", "Fill it in or remove the row.")
    return value


def _time(path: Path, line: int, value: Any) -> float | None:
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
