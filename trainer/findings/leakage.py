"""Training rows that the hold-out repeats: whoever learns them is proven by what it has seen."""

from __future__ import annotations

from trainer.duplicates import fitting, near_duplicates, plain
from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"  # the verdict leaves such rows out of its proof


def find(data: Data) -> Finding | None:
    """Training rows equal to, or nearly equal to, a hold-out row."""
    held = [row.text for row in data.holdout if row.label is not None]  # others prove nothing
    near = near_duplicates(held, (row.text for row in data.rows), fitting(held))
    if not near:
        return None
    same = sum(plain(held[there]) == plain(data.rows[place].text) for place, there in near.items())
    return Finding(
        kind="leakage",
        message=(
            f"{len(near)} of {len(data.rows)} training rows repeat a hold-out row "
            f"({same} word for word, the others nearly)"
        ),
        rows=tuple(near),
        examples=tuple(
            example(data, place, f"hold-out: {held[there][:80]}")
            for place, there in list(near.items())[:EXAMPLES]
        ),
    )
