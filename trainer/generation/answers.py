"""What a version answers to its own hold-out: sealed with it, so that nobody has to ask it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.rows import HoldoutRow
from trainer.tabular import parquet_bytes, parquet_records, write_bytes

NUMBERS = {"tokens": "int64", "mean_logprob": "float64", "prompt_logprob": "float64"}
COLUMNS = {"row": "int64", "answer": "string", **NUMBERS}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of the likeliest tokens; versions of earlier releases kept nothing but its text."""

    text: str
    tokens: int | None = None  # the end among them; 0 where the prompt left no room for an answer
    mean_logprob: float | None = None  # of its tokens, natural logarithm
    prompt_logprob: float | None = None  # the same of some of the prompt's, see trainer.decoder.graph


def mean(logprobs: Sequence[float]) -> float | None:
    """Their mean, None where there are none.

    >>> mean([-1.0, -2.0]), mean([])
    (-1.5, None)
    """
    return sum(logprobs) / len(logprobs) if logprobs else None


def write_answers(
    holdout: Sequence[HoldoutRow], asked: Sequence[HoldoutRow], answers: Sequence[Said], path: Path
) -> None:
    """Write the answers to those rows of a hold-out that were asked."""
    places = {row.text: number for number, row in enumerate(holdout)}
    rows = [
        {
            "row": places[row.text],
            "answer": said.text,
            **{name: getattr(said, name) for name in NUMBERS},
        }
        for row, said in zip(asked, answers, strict=True)
    ]
    write_bytes(path, parquet_bytes(rows, COLUMNS))


def read_answers(content: bytes) -> dict[int, Said]:
    """Answers by the number of their row in the hold-out, from the bytes of a file."""
    return {
        int(record["row"]): Said(str(record["answer"]), **{name: record.get(name) for name in NUMBERS})
        for record in parquet_records(content)
    }
