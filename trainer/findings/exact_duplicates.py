"""Rows that say what an earlier row says, with the same label; case and punctuation do not count."""

from __future__ import annotations

from trainer.duplicates import plain
from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"  # traffic repeats itself, and what is asked often may count more often


def find(data: Data) -> Finding | None:
    """Every row after the first of its kind."""
    first: dict[tuple[str, str], int] = {}
    again: dict[int, int] = {}
    for place, row in enumerate(data.rows):
        earlier = first.setdefault((plain(row.text) or row.text, row.label), place)
        if earlier != place:
            again[place] = earlier
    if not again:
        return None
    return Finding(
        kind="exact_duplicates",
        message=f"{len(again)} of {len(data.rows)} rows repeat another row with the same label",
        rows=tuple(again),
        examples=tuple(
            example(data, place, f"as row {earlier}") for place, earlier in list(again.items())[:EXAMPLES]
        ),
    )
