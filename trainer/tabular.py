"""Plain records in and out of files: .jsonl, .csv, .parquet, .arrow, each with the line it came from."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from trainer.arrow_rows import Numbered, parquet_rows, stream_rows
from trainer.cells import columns_once
from trainer.errors import DataError

LONGEST_LINE = 64 << 20  # bytes: whoever gives a file without line ends must not fill the memory


def records(path: Path) -> Numbered:
    """(line, record) of every row of a file; lines count from 1 (rows, for parquet and arrow)."""
    readers: dict[str, Callable[[Path], Numbered]] = {
        ".jsonl": _json_lines,
        ".csv": _csv_lines,
        ".parquet": parquet_rows,
        ".arrow": stream_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            path, None, "unknown kind of file", "Use .jsonl, .csv, .parquet or a Hugging Face dataset folder."
        )
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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) with its end, one at a time; DataError where one is too long or not UTF-8."""
    with path.open("rb") as file:
        number = 0
        while content := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(content) > LONGEST_LINE:
                problem = f"the line is longer than {LONGEST_LINE >> 20} MiB"
                raise DataError(path, number, problem, "Is it text, one row a line? Cut it into rows.")
            try:
                yield number, content.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                problem = f"it is not UTF-8 (byte {error.start + 1} of the line)"
                raise DataError(path, number, problem, "Save the file as UTF-8.") from error


def _json_lines(path: Path) -> Numbered:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            torn = not line.endswith("\n")
            problem = (
                "the last line is torn, the file was not written to its end"
                if torn
                else f"not JSON ({error})"
            )
            raise DataError(path, number, problem, "Write the file again, or remove the line.") from error
        if not isinstance(record, _Pairs):
            raise DataError(path, number, "not a JSON object", 'Write {"text": …, "label": …} per line.')
        columns_once(path, number, record.columns)
        yield number, record


class _Pairs(dict[str, Any]):
    """A JSON object that remembers every name it was written with."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.columns = [name for name, _ in pairs]


def _csv_lines(path: Path) -> Numbered:
    csv.field_size_limit(LONGEST_LINE)  # texts are longer than the module's 128 KiB
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            if header is None:
                header = cells
                columns_once(path, start, header)
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
