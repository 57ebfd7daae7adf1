"""Rows that all but repeat an earlier one: they teach little and make any random split leak."""

from __future__ import annotations

from trainer.duplicates import fitting, plain, repeats
from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"


def find(data: Data) -> Finding | None:
    """Rows like an earlier row of the same label; those that are the same are another finding."""
    texts = [plain(row.text) for row in data.rows]
    same = {
        place: first
        for place, first in repeats(texts, fitting(texts)).items()
        if texts[place] != texts[first] and data.rows[place].label == data.rows[first].label
    }
    if not same:
        return None
    return Finding(
        kind="near_duplicates",
        message=f"{len(same)} of {len(data.rows)} rows nearly repeat another row with the same label",
        rows=tuple(same),
        examples=tuple(
            example(data, place, f"like row {first}") for place, first in list(same.items())[:EXAMPLES]
        ),
    )
