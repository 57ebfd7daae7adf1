"""The files of the lake: written beside, synced, compared, and only then named as what counts."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from monitor.errors import MonitorError
from monitor.lake import rows
from monitor.lake.days import Day


class LakeFileError(MonitorError):
    """A file of the lake is not what was written; its rows that are still in the database stay there."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(
            f"{file} {problem}: look at its disk, restore it from a backup; sealing goes on by itself then."
        )


def path(lake: Path, day: Day) -> Path:
    """Where the day's rows lie: LAKE/MODEL/VERSION/DAY.parquet, DAY.1.parquet for what came late, …"""
    return lake / day.model / day.version / f"{day.name}.parquet"


def write(lake: Path, day: Day, pages: Iterable[Any]) -> str:
    """Write the pages, a row group each, beside the file's place; returns the token of the attempt."""
    import pyarrow.parquet  # noqa: PLC0415  a quarter of a second

    token = secrets.token_hex(8)
    beside = _beside(lake, day, token)
    beside.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        with pyarrow.parquet.ParquetWriter(file, rows.schema(), compression="zstd") as writer:
            for page in pages:
                writer.write_table(page, row_group_size=len(page))
        file.flush()
        os.fsync(file.fileno())
    for folder in beside.parents[:4]:  # of the version, of the model, the lake and what it lies in
        _sync_folder(folder)
    return token


def compare(lake: Path, day: Day, token: str, pages: Iterable[Any]) -> None:
    """Read the file back and compare it with the database, row by row; LakeFileError where they differ."""
    beside = _beside(lake, day, token)
    groups = _groups(beside, None)
    if not all(page.equals(next(groups, None)) for page in pages) or next(groups, None) is not None:
        raise LakeFileError(beside, "differs from the rows in the database")


def digest(lake: Path, day: Day, token: str) -> str:
    """SHA-256 of the file that `write` made."""
    return _sha256(_beside(lake, day, token))


def place(lake: Path, day: Day) -> None:
    """Give the recorded file its name, if it does not have it yet; LakeFileError where its bytes differ."""
    assert day.token is not None
    final, beside = path(lake, day), _beside(lake, day, day.token)
    if beside.exists():
        beside.replace(final)
        _sync_folder(final.parent)
    if not final.exists():
        raise LakeFileError(final, "is missing")
    if _sha256(final) != day.sha256:
        raise LakeFileError(final, "was changed since it was written")


def seqs(lake: Path, day: Day) -> Iterator[list[int]]:
    """Serial numbers of the file's rows, a row group at a time."""
    return (group.column("seq").to_pylist() for group in _groups(path(lake, day), ["seq"]))


def sweep(lake: Path, day: Day) -> None:
    """Remove what attempts that died or lost have left beside the day's file."""
    for left in path(lake, day).parent.glob(f".{path(lake, day).name}.*"):
        left.unlink(missing_ok=True)


def _beside(lake: Path, day: Day, token: str) -> Path:
    final = path(lake, day)
    return final.with_name(f".{final.name}.{token}")


def _groups(file: Path, columns: list[str] | None) -> Iterator[Any]:
    import pyarrow.parquet  # noqa: PLC0415  as above

    with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as opened:
        for number in range(opened.num_row_groups):
            yield opened.read_row_group(number, columns=columns, use_threads=False)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
