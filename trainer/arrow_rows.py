"""Rows of Parquet files and Arrow streams, a batch at a time; class numbers of Hugging Face become names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from trainer.cells import columns_once
from trainer.errors import DataError

Numbered: TypeAlias = Iterator[tuple[int, dict[str, Any]]]
"""(line, record); lines count from 1."""
Column = Callable[[Any], Any]
ROWS = 4096  # of a batch


def parquet_rows(path: Path) -> Numbered:
    """Rows of a Parquet file."""
    import pyarrow.parquet  # noqa: PLC0415  costs a quarter of a second, which `trueup --help` does not have

    def batches() -> Iterable[Any]:
        # Its I/O threads now and then abort a process that ends soon afterwards ("terminate called …").
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            yield file.schema_arrow
            yield from file.iter_batches(ROWS, use_threads=False)

    return _rows(path, "parquet file", batches)


def stream_rows(path: Path) -> Numbered:
    """Rows of an Arrow stream, as `datasets.save_to_disk` writes them."""
    import pyarrow  # noqa: PLC0415  as above

    def batches() -> Iterable[Any]:
        with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as reader:
            yield reader.schema
            yield from reader

    return _rows(path, "Arrow stream", batches)


def _rows(path: Path, kind: str, batches: Callable[[], Iterable[Any]]) -> Numbered:
    """`batches` yields the schema first."""
    try:
        found = iter(batches())
        schema = next(found)
        columns_once(path, None, schema.names)
        named = class_names(schema)
        number = 0
        for batch in found:
            for record in batch.to_pylist():
                number += 1
                yield number, record | {name: to_name(record[name]) for name, to_name in named.items()}
    except (ValueError, OSError, StopIteration) as error:  # pyarrow's own errors are among them
        raise DataError(path, None, f"it is not a whole {kind} ({error})", "Write it again.") from error


def class_names(schema: Any) -> dict[str, Column]:
    """How the columns of a schema that hold class numbers are turned into names.

    Hugging Face keeps the names beside the numbers, in the schema's metadata; -1 stands for no label.
    """
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    found = {name: _column(feature) for name, feature in features.items() if name in schema.names}
    return {name: column for name, column in found.items() if column is not None}


def _column(feature: Any) -> Column | None:
    """Of a ClassLabel, or a list of them in each of its spellings (Sequence, List, LargeList, [feature])."""
    if isinstance(feature, list) and feature:
        feature = {"_type": "List", "feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        names = feature["names"]
        return lambda value: _name(names, value)
    if feature.get("_type") in {"Sequence", "List", "LargeList"}:
        inner = _column(feature.get("feature"))
        if inner is not None:
            return lambda values: None if values is None else [inner(value) for value in values]
    return None


def _name(names: list[str], value: Any) -> Any:
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
