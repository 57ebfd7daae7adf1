"""Texts of another language than nearly all others, in the same script."""

from __future__ import annotations

from collections import Counter

from trainer.findings import EXAMPLES, Action, Data, Finding, example
from trainer.languages import FEWEST, hints, other

ACTION: Action = "warn"
USUAL = 0.8  # share of the texts with hints that speak the main language, below which there is none


def find(data: Data) -> Finding | None:
    """Rows that frequent words say to be of another language; short ones are left in doubt."""
    told = [hints(row.text) for row in data.rows]
    spoken = Counter(found.most_common(1)[0][0] for found in told if found.total() >= FEWEST)
    if not spoken:
        return None
    usual, often = spoken.most_common(1)[0]
    foreign = {place: name for place, found in enumerate(told) if (name := other(found, usual))}
    if not foreign or often < USUAL * spoken.total():
        return None
    counts = ", ".join(f"{name} {count}" for name, count in Counter(foreign.values()).most_common(EXAMPLES))
    return Finding(
        kind="foreign_language",
        message=f"{len(foreign)} of {len(told)} texts are not in {usual} ({counts})",
        rows=tuple(foreign),
        examples=tuple(example(data, place, name) for place, name in list(foreign.items())[:EXAMPLES]),
    )
