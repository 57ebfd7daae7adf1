"""Is the challenger worse somewhere, whatever it gains on the whole? One test per slice, corrected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitor.verdict.finding import Finding
from monitor.verdict.paired import LEVEL, Pairs, harm_p
from monitor.verdict.rows import PairedRow, count

MIN_ROWS = 30  # paired rows: smaller slices are not tested
MOST_SLICES = 10  # of metadata, and as many classes: the largest


def frequent(metadata: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the slices "name=value" that are large enough to test, largest first, bounded in number.

    >>> frequent([{"channel": "mail", "id": n} for n in range(40)])
    ['channel=mail']
    """
    rows = Counter(name for entry in metadata for name in names(entry))
    return _largest({name: number for name, number in rows.items() if number >= MIN_ROWS})


def names(metadata: Mapping[str, Any]) -> list[str]:
    """The slices that a row belongs to.

    >>> names({"channel": "mail", "desk": None})
    ['channel=mail']
    """
    return [f"{name}={value}" for name, value in metadata.items() if value is not None]


def slice_pairs(recent: Sequence[PairedRow], base: Sequence[PairedRow]) -> dict[str, Pairs]:
    """Slices to test: of recent rows by metadata, of both parts by class; recent and old apart.

    A gain on new traffic must not hide a loss of the same class on the old.
    """
    known: dict[str, list[PairedRow]] = defaultdict(list)
    classes: dict[str, list[PairedRow]] = defaultdict(list)
    for part, rows in (("recent", recent), ("old", base)):
        for row in rows:
            classes[f"{part} traffic, class {row.truth}"].append(row)
            for name in row.slices:
                known[f"{part} traffic, {name}"].append(row)
    chosen = [
        (name, group[name])
        for group in (known, classes)
        for name in _largest({name: len(rows) for name, rows in group.items() if len(rows) >= MIN_ROWS})
    ]
    return {name: count(rows) for name, rows in chosen}


def judge_slices(slices: Mapping[str, Pairs]) -> Finding:
    """Refuse a challenger that is proven worse in any slice: exact sign tests, Holm (1979) at 5 %.

    The chance that a challenger as good as the champion in every slice is refused is at most 5 %, however
    the slices overlap.
    """
    if not slices:
        return Finding(passed=True, reason=f"No slice has {MIN_ROWS} labelled rows to test.", numbers=[])
    ps = holm([harm_p(pairs.only_champion, pairs.only_challenger) for pairs in slices.values()])
    numbers = [
        {
            "slice": name,
            "rows": pairs.rows,
            "only_champion": pairs.only_champion,
            "only_challenger": pairs.only_challenger,
            "holm_p": p,
        }
        for (name, pairs), p in zip(slices.items(), ps, strict=True)
    ]
    harmed = [_said(name, slices[name], p) for name, p in zip(slices, ps, strict=True) if p <= LEVEL]
    if harmed:
        return Finding(passed=False, reason=f"Worse on {'; '.join(harmed)}.", numbers=numbers)
    return Finding(passed=True, reason=f"Proven worse in none of {len(slices)} slices.", numbers=numbers)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: each at most 0.05 is a finding at 5 % over all. Source: Holm
    (1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = highest
    return adjusted


def _said(name: str, pairs: Pairs, p: float) -> str:
    return (
        f"{name} ({pairs.only_champion} rows lost, {pairs.only_challenger} won of {pairs.rows}, p = {p:.2g})"
    )


def _largest(sizes: Mapping[str, int]) -> list[str]:
    return sorted(sizes, key=lambda name: (-sizes[name], name))[:MOST_SLICES]
