"""Texts that hold personal data: a model may repeat them, and its files keep the hold-out's texts."""

from __future__ import annotations

from collections import Counter

from trainer.findings import EXAMPLES, Action, Data, Example, Finding
from trainer.personal import kinds
from trainer.presidio import by_presidio, nothing

ACTION: Action = "warn"


def find(data: Data) -> Finding | None:
    """Rows with addresses, account, card or telephone numbers; the examples do not repeat them."""
    also = by_presidio() if data.presidio else nothing
    found = {
        place: there
        for place, row in enumerate(data.rows)
        if (there := tuple(sorted({*kinds(row.text), *also(row.text)})))
    }
    if not found:
        return None
    counts = Counter(kind for there in found.values() for kind in there)
    told = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
    return Finding(
        kind="personal_data",
        message=f"{len(found)} of {len(data.rows)} texts look as if they held personal data ({told})",
        rows=tuple(found),
        examples=tuple(
            Example(row=place, text="(not shown)", label=data.rows[place].label, note=", ".join(there))
            for place, there in list(found.items())[:EXAMPLES]
        ),
    )
