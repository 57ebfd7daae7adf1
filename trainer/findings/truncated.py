"""Texts that are longer than the model reads: what is said last is never learnt nor answered."""

from __future__ import annotations

from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"
SHARE = 0.05  # fewer rows than this are normal


def find(data: Data) -> Finding | None:
    """Rows with more tokens than `max_tokens`, where they are more than SHARE of all."""
    if data.lengths is None or data.max_tokens is None:
        return None
    cut = [place for place, length in enumerate(data.lengths) if length > data.max_tokens]
    if len(cut) <= SHARE * len(data.rows):
        return None
    cut.sort(key=lambda place: -data.lengths[place])  # type: ignore[index]  # checked above
    return Finding(
        kind="truncated",
        message=(
            f"{len(cut)} of {len(data.rows)} texts are longer than max_tokens = {data.max_tokens} "
            f"(the longest has {data.lengths[cut[0]]} tokens)"
        ),
        rows=tuple(cut),
        examples=tuple(example(data, place, f"{data.lengths[place]} tokens") for place in cut[:EXAMPLES]),
    )
