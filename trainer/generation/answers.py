"""What a version answers to its own hold-out: sealed with it, so that nobody has to ask it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.rows import HoldoutRow
from trainer.tabular import parquet_bytes, parquet_records, write_bytes

COLUMNS = {"row": "int64", "answer": "string"}


def write_answers(
    holdout: Sequence[HoldoutRow], asked: Sequence[HoldoutRow], answers: Sequence[str], path: Path
) -> None:
    """Write the answers to those rows of a hold-out that were asked."""
    places = {row.text: number for number, row in enumerate(holdout)}
    rows = [{"row": places[row.text], "answer": answer} for row, answer in zip(asked, answers, strict=True)]
    write_bytes(path, parquet_bytes(rows, COLUMNS))


def read_answers(content: bytes) -> dict[int, str]:
    """Answers by the number of their row in the hold-out, from the bytes of a file."""
    return {int(record["row"]): str(record["answer"]) for record in parquet_records(content)}
