"""What a language model's prompts and answers are held to: its sealed hold-out and what it answered there.

Nothing is generated again: the answers were given by the exported graph before the version was sealed. The
probability of their tokens was not kept, so confidence has no reference, and no embedding was taken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np

from exporter.answers import describe_answer
from exporter.descriptors import describe
from exporter.generation import WHITE, FinishReason
from exporter.sketch import Sketch, fit_sketch, from_bytes, to_bytes
from exporter.sketches import ReplayedRow
from trainer.decoder.sealed import ANSWERS, DecoderVersion
from trainer.generation.answers import Said, read_answers
from trainer.generation.metrics import exact_match
from trainer.rows import HoldoutRow, read_holdout

_UNKNOWN = float("nan")
_SURE = 1.0  # the reference's column takes no NaN; nothing is bet on it


def reference_rows(version: DecoderVersion, name: str) -> list[dict[str, Any]]:
    """Rows of the table `reference`: its label is the answer. None where no answers were sealed.

    White space around an answer does not count, as in `exporter.generation.said`.
    """
    return [
        {
            "model": version.manifest.model,
            "version": name,
            "row": number,
            "in_reference": row.in_reference,
            "truth": None if row.label is None else row.label.strip(WHITE),
            "label": said.text.strip(WHITE),
            "score": _SURE,
            "scores": [],
            "similarity": None,
            "tokens": 0,
            "characters": len(row.text),
        }
        for number, row, said in _answered(version)
    ]


def sketch_of(version: DecoderVersion) -> Sketch | None:
    """Prompts in the cells of their series, answers as right or wrong; None without reference rows."""
    held = [(row, said) for _, row, said in _answered(version) if row.in_reference]
    if not held:
        return None
    bare = fit_sketch(
        [_row(row.text, said) for row, said in held],
        [None] * len(held),
        list(get_args(FinishReason)),
        generated=True,
    )
    right = [bool(exact_match(said.text, row.label)) for row, said in held if row.label is not None]
    counted = replace(bare, right=np.array([sum(right)]), wrong=np.array([len(right) - sum(right)]))
    return from_bytes(to_bytes(counted))


def _row(text: str, said: Said) -> ReplayedRow:
    described = describe(text)
    return ReplayedRow(
        label="",
        score=_UNKNOWN,
        similarity=None,
        characters=len(text),
        descriptors=(*described.numbers, *describe_answer(said)),
        words=described.words,
    )


def _answered(version: DecoderVersion) -> list[tuple[int, HoldoutRow, Said]]:
    if ANSWERS not in version.files:
        return []
    rows = read_holdout(version.path / "holdout.parquet")
    return [
        (number, rows[number], said) for number, said in sorted(read_answers(version.files[ANSWERS]).items())
    ]
