"""One class that drowns the others: accuracy then says little, and small classes are learnt last."""

from __future__ import annotations

from trainer.findings import Action, Data, Finding

ACTION: Action = "warn"
TIMES = 50.0  # the largest class over the median one


def find(data: Data) -> Finding | None:
    """Whether the largest class has TIMES the rows of the median class; nothing is dropped for it."""
    counts = sorted(data.counts().items(), key=lambda one: one[1])
    if not counts:
        return None
    (largest, most), (_, median) = counts[-1], counts[len(counts) // 2 if len(counts) > 2 else 0]
    if most < TIMES * median:
        return None
    return Finding(
        kind="imbalance",
        message=f"class {largest!r} has {most} of {len(data.rows)} rows, the median class {median}",
        rows=(),
    )
