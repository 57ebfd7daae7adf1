"""Which slices of the client's metadata moved: their share, their similarity, their accuracy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from monitor.explain.classes import two_proportion_p
from monitor.explain.rows import Rows
from monitor.severity import rank_severity
from monitor.verdict.slices import holm
from monitor.windows import Floats, Ints

What = Literal["share", "similarity", "accuracy"]
MIN_ROWS = 20  # of a slice, and labels of it, on both sides
TESTED = 50  # the slices with the most rows
MOST = 5
LEVEL = 0.05
Name: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSlice:
    """`before` and `now` are shares of rows, medians of similarity, or accuracies."""

    key: str
    value: str
    what: What
    before: float
    now: float
    rows: int
    p_value: float  # Holm over the slices that were tested for the same


def moved_slices(before: Rows, now: Rows, reference: Floats) -> tuple[MovedSlice, ...]:
    """At most MOST of each kind that pass 5 %: share either way, similarity and accuracy where they fell.

    `before` are earlier rows of the same version; the similarity of a slice that they do not have is
    compared with the reference's [n].
    """
    then, here = members(before.metadata), members(now.metadata)
    totals = Counter({name: len(rows) for name, rows in here.items()})
    totals.update({name: len(rows) for name, rows in then.items()})
    names = [name for name, rows in totals.most_common(TESTED) if rows >= MIN_ROWS]
    none = np.empty(0, dtype=np.int64)
    pairs = [(name, then.get(name, none), here.get(name, none)) for name in names]
    found = (*_shares(pairs, before, now), *_similarities(pairs, before, now, reference))
    return (*found, *_accuracies(pairs, before, now))


def members(metadata: Sequence[Mapping[str, Any]]) -> dict[Name, Ints]:
    """Row numbers by (key, value); a real number is no slice.

    >>> {name: rows.tolist() for name, rows in members([{"desk": "a", "ms": 0.5}, {"desk": "a"}]).items()}
    {('desk', 'a'): [0, 1]}
    """
    found: dict[Name, list[int]] = defaultdict(list)
    for row, fields in enumerate(metadata):
        for key, value in fields.items():
            if value is not None and not isinstance(value, float):
                found[key, str(value)].append(row)
    return {name: np.array(rows, dtype=np.int64) for name, rows in found.items()}


_Pairs: TypeAlias = Sequence[tuple[Name, Ints, Ints]]
_Tested: TypeAlias = tuple[Name, float, float, int, float]  # slice, before, now, rows, p-value


def _shares(pairs: _Pairs, before: Rows, now: Rows) -> tuple[MovedSlice, ...]:
    if min(before.rows, now.rows) < MIN_ROWS:
        return ()
    tested = [
        (
            name,
            len(then) / before.rows,
            len(here) / now.rows,
            len(here),
            two_proportion_p(len(here), now.rows, len(then), before.rows, two_sided=True),
        )
        for name, then, here in pairs
    ]
    return _passed("share", tested)


def _similarities(pairs: _Pairs, before: Rows, now: Rows, reference: Floats) -> tuple[MovedSlice, ...]:
    tested = []
    for name, then, here in pairs:
        current = _finite(now.similarity[here])
        earlier = _finite(before.similarity[then])
        compared = earlier if earlier.size >= MIN_ROWS else _finite(reference)
        if min(current.size, compared.size) >= MIN_ROWS:
            p = rank_severity(compared, current).p_value
            tested.append((name, float(np.median(compared)), float(np.median(current)), len(here), p))
    return _passed("similarity", tested)


def _accuracies(pairs: _Pairs, before: Rows, now: Rows) -> tuple[MovedSlice, ...]:
    tested = []
    for name, then, here in pairs:
        earlier, current = _finite(before.correct[then]), _finite(now.correct[here])
        if min(earlier.size, current.size) >= MIN_ROWS:
            wrong, others = int((current == 0).sum()), int((earlier == 0).sum())
            p = two_proportion_p(wrong, current.size, others, earlier.size, two_sided=False)
            tested.append((name, float(earlier.mean()), float(current.mean()), current.size, p))
    return _passed("accuracy", tested)


def _passed(what: What, tested: Sequence[_Tested]) -> tuple[MovedSlice, ...]:
    ps = holm([one[-1] for one in tested])
    found = [
        MovedSlice(key=name[0], value=name[1], what=what, before=then, now=here, rows=rows, p_value=p)
        for (name, then, here, rows, _), p in zip(tested, ps, strict=True)
        if p <= LEVEL
    ]
    return tuple(sorted(found, key=lambda one: -abs(one.now - one.before))[:MOST])


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]
