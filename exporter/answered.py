"""Answered rows as columns: the numbers that the monitor's detectors are made of, one number a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from exporter import answers
from exporter.descriptors import LANGUAGES
from trainer.tasks import watched

Floats: TypeAlias = npt.NDArray[np.float64]
_DESCRIPTORS = ("non_letters", "repetition", "language", *answers.NAMES)
_UNKNOWN = (None,) * len(_DESCRIPTORS)


class AnsweredRow(Protocol):
    """What a `Prediction`, a row of `predictions` and a replayed hold-out row have in common."""

    @property
    def label(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def similarity(self) -> float | None: ...
    @property
    def characters(self) -> int: ...
    @property
    def run_ms(self) -> float: ...
    @property
    def embedding(self) -> bytes | None: ...
    @property
    def descriptors(self) -> Sequence[float | None] | None: ...
    @property
    def words(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """n rows; a number that is not known is NaN."""

    numbers: Mapping[str, Floats]  # series -> [n]
    embedding: Floats | None  # [n, hidden], NaN rows where there is none
    words: npt.NDArray[np.int64]  # buckets of every row, one row after the other
    word_rows: npt.NDArray[np.int64]  # the row of each


def columns_of(rows: Sequence[Any], labels: Sequence[str]) -> Answered:
    """Columns of `AnsweredRow`s; `labels` are the manifest's, which number the classes."""
    place = {name: float(index) for index, name in enumerate(labels)}
    described = _floats([((*(row.descriptors or ()), *_UNKNOWN)[: len(_DESCRIPTORS)]) for row in rows])
    described = described.reshape(len(rows), len(_DESCRIPTORS))
    numbers = {
        "similarity": _floats([row.similarity for row in rows]),
        "confidence": _floats([row.score for row in rows]),
        "label": _floats([place.get(watched(row.label)) for row in rows]),
        "characters": _floats([row.characters for row in rows]),
        "latency": _floats([row.run_ms for row in rows]),
        **{name: described[:, number] for number, name in enumerate(_DESCRIPTORS)},
    }
    numbers["language"] = np.where(numbers["language"] < len(LANGUAGES), numbers["language"], np.nan)
    words = [np.frombuffer(row.words or b"", dtype="<u2") for row in rows]
    return Answered(
        numbers=numbers,
        embedding=_embeddings([row.embedding or b"" for row in rows]),
        words=np.concatenate([np.empty(0, dtype=np.int64), *words]).astype(np.int64),
        word_rows=np.repeat(np.arange(len(rows)), [found.size for found in words]),
    )


def _embeddings(found: Sequence[bytes]) -> Floats | None:
    """Rows of the commonest length; another length is as good as none."""
    longest = max(map(len, found), default=0)
    if not longest:
        return None
    blank = np.full(longest // 2, np.nan, dtype="<f2").tobytes()
    joined = b"".join(one if len(one) == longest else blank for one in found)
    return np.frombuffer(joined, dtype="<f2").reshape(len(found), -1).astype(np.float64)


def _floats(values: Sequence[Any]) -> Floats:
    return np.array(values, dtype=np.float64)  # None becomes NaN
