"""Classes with so few rows that nobody can learn them, or tell whether they were learnt."""

from __future__ import annotations

from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"
FEWEST = 10


def find(data: Data) -> Finding | None:
    """Rows of classes with fewer than FEWEST rows, and classes that only the hold-out has."""
    counts = data.counts()
    told = {name for row in data.holdout if row.label is not None for name in data.names(row.label)}
    unseen = sorted(told - set(counts))
    rare = [label for label, count in counts.items() if count < FEWEST]
    if not rare and not unseen:
        return None
    parts = [f"{len(rare)} of {len(counts)} classes have fewer than {FEWEST} rows"] if rare else []
    if unseen:
        parts.append(
            f"{len(unseen)} classes are only in the hold-out ({', '.join(unseen[:EXAMPLES])}), where no "
            "answer can be right: add training rows of them, or take them out of it"
        )
    few = {
        place: min(counts[name] for name in found)
        for place, row in enumerate(data.rows)
        if (found := set(data.names(row.label)) & set(rare))
    }
    return Finding(
        kind="rare_classes",
        message="; ".join(parts),
        rows=tuple(few),
        examples=tuple(
            example(data, place, f"{count} rows of its class")
            for place, count in list(few.items())[:EXAMPLES]
        ),
    )
