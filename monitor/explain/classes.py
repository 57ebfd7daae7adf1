"""Which class absorbs the rows that moved: their answers against the reference's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.verdict.slices import holm

MOST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsorbingClass:
    """Shares are of the rows that moved, and of all reference rows, in [0, 1]."""

    label: str
    rows: int
    share: float
    reference_share: float
    p_value: float  # that it takes no more than its share; Holm over the classes


def absorbing(moved: Sequence[str], reference: Sequence[str]) -> tuple[AbsorbingClass, ...]:
    """Classes that answered the moved rows more often than the reference, the largest surplus first.

    >>> (found,) = absorbing(["a"] * 18 + ["b"] * 2, ["a", "b"] * 50)
    >>> found.label, found.share, found.reference_share, found.p_value < 0.01
    ('a', 0.9, 0.5, True)
    """
    now, before = Counter(moved), Counter(reference)
    names = sorted({*now, *before})
    if not now or not before:
        return ()
    ps = holm(
        [
            two_proportion_p(now[name], len(moved), before[name], len(reference), two_sided=False)
            for name in names
        ]
    )
    found = [
        AbsorbingClass(
            label=name,
            rows=now[name],
            share=now[name] / len(moved),
            reference_share=before[name] / len(reference),
            p_value=p,
        )
        for name, p in zip(names, ps, strict=True)
    ]
    larger = [one for one in found if one.share > one.reference_share]
    return tuple(sorted(larger, key=lambda one: one.reference_share - one.share)[:MOST])


def two_proportion_p(hits: int, rows: int, other_hits: int, other_rows: int, *, two_sided: bool) -> float:
    """p-value that hits / rows is no higher (or not different) than the other share: pooled z-test.

    >>> round(two_proportion_p(60, 100, 40, 100, two_sided=True), 4)
    0.0047
    >>> two_proportion_p(5, 5, 9, 9, two_sided=True)
    1.0
    """
    pooled = (hits + other_hits) / (rows + other_rows)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / other_rows))
    if spread == 0:
        return 1.0
    z = (hits / rows - other_hits / other_rows) / spread
    tail = math.erfc((abs(z) if two_sided else z) / math.sqrt(2)) / 2
    return 2 * tail if two_sided else tail
