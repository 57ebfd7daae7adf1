"""Plain records in and out of files: .jsonl, .csv and .parquet, each with the line it came from."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from trainer.errors import DataError

Numbered = Iterator[tuple[int, dict[str, Any]]]


def records(path: Path) -> Numbered:
    """(line, record) of every row of a file; lines count from 1 (rows, for parquet)."""
    readers: dict[str, Callable[[Path], Numbered]] = {
        ".jsonl": _json_lines,
        ".csv": _csv_lines,
        ".parquet": _parquet_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(path, None, "unknown kind of file", "Use .jsonl, .csv or .parquet.")
    if not path.is_file():
        raise DataError(path, None, "there is no such file", "Correct [data] in the spec.")
    return reader(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it exists completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(path, line, "it is not UTF-8", "Save the file as UTF-8.") from error


def _json_lines(path: Path) -> Numbered:
    lines = _decoded(path).split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            torn = number == len(lines)
            problem = (
                "the last line is torn, the file was not written to its end"
                if torn
                else f"not JSON ({error})"
            )
            raise DataError(path, number, problem, "Write the file again, or remove the line.") from error
        if not isinstance(record, dict):
            raise DataError(path, number, "not a JSON object", 'Write {"text": …, "label": …} per line.')
        yield number, record


def _csv_lines(path: Path) -> Numbered:
    csv.field_size_limit(2**31 - 1)  # texts are longer than the module's 128 KiB
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            if header is None:
                header = cells
            elif cells:
                yield start, _named(path, start, header, cells)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            path, start, f"the row is torn ({error})", "Write the file again, or remove the row."
        ) from error


def _named(path: Path, line: int, header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        problem = f"the row has {len(cells)} cells, the header {len(header)}"
        raise DataError(path, line, problem, "The row may be torn; write it again.")
    return dict(zip(header, cells, strict=True))


def _parquet_lines(path: Path) -> Numbered:
    try:
        rows = parquet_records(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DataError(path, None, f"it is not a whole parquet file ({error})", "Write it again.") from error
    yield from enumerate(rows, 1)


def parquet_records(content: bytes) -> list[dict[str, Any]]:
    """Rows of a parquet file in its order; ValueError or OSError where it is none."""
    import pyarrow.parquet  # noqa: PLC0415  costs a quarter of a second, which `trueup --help` does not have

    # Its I/O threads now and then abort a process that ends soon afterwards ("terminate called …").
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(content), use_threads=False, pre_buffer=False)
    return cast("list[dict[str, Any]]", table.to_pylist())


def parquet_bytes(rows: list[dict[str, Any]], columns: dict[str, str]) -> bytes:
    """A parquet file of `columns` {name: Arrow type}; the same rows give the same bytes."""
    import pyarrow.parquet  # noqa: PLC0415  as above

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return sink.getvalue()
