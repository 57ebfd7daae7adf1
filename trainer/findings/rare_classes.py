"""Classes with so few rows that nobody can learn them, or tell whether they were learnt."""

from __future__ import annotations

from collections import Counter

from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"
FEWEST = 10


def find(data: Data) -> Finding | None:
    """Rows of classes with fewer than FEWEST rows, and classes that only the hold-out has."""
    counts = Counter(row.label for row in data.rows)
    unseen = sorted({row.label for row in data.holdout if row.label is not None} - set(counts))
    rare = [label for label, count in counts.items() if count < FEWEST]
    if not rare and not unseen:
        return None
    parts = [f"{len(rare)} of {len(counts)} classes have fewer than {FEWEST} rows"] if rare else []
    if unseen:
        parts.append(f"{len(unseen)} classes are only in the hold-out ({', '.join(unseen[:EXAMPLES])})")
    places = [place for place, row in enumerate(data.rows) if row.label in set(rare)]
    return Finding(
        kind="rare_classes",
        message="; ".join(parts),
        rows=tuple(places),
        examples=tuple(
            example(data, place, f"{counts[data.rows[place].label]} rows of its class")
            for place in places[:EXAMPLES]
        ),
    )
