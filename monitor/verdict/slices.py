"""Is the challenger worse somewhere, whatever it gains on the whole? One test per slice, corrected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitor.verdict.finding import Finding
from monitor.verdict.paired import LEVEL, Pairs, harm_p, pair
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

    A gain on new traffic must not hide a loss of the same class on the old. On old traffic a class are the
    rows of that truth (recall). On recent traffic they are those, and every row that a model answered with
    the class: who answers a new language with one class has its recall for nothing.
    """
    known: dict[str, list[PairedRow]] = defaultdict(list)
    for part, rows in (("recent", recent), ("old", base)):
        for row in rows:
            for name in row.slices:
                known[f"{part} traffic, {name}"].append(row)
    classes = {f"old traffic, class {name}": count(rows) for name, rows in _by_truth(base).items()}
    classes |= {f"recent traffic, class {name}": _told_apart(name, recent) for name in _by_truth(recent)}
    chosen: dict[str, Pairs] = {}
    for group in ({name: count(rows) for name, rows in known.items()}, classes):
        sizes = {name: pairs.rows for name, pairs in group.items() if pairs.rows >= MIN_ROWS}
        chosen |= {name: group[name] for name in _largest(sizes)}
    return chosen


def _by_truth(rows: Sequence[PairedRow]) -> dict[str, list[PairedRow]]:
    found: dict[str, list[PairedRow]] = defaultdict(list)
    for row in rows:
        found[row.truth].append(row)
    return found


def _told_apart(name: str, rows: Sequence[PairedRow]) -> Pairs:
    """Who tells the class from the others, on every row where the class is the truth or an answer."""
    concerned = [row for row in rows if name in (row.truth, row.champion.label, row.challenger.label)]
    return pair(
        [(row.champion.label == name) == (row.truth == name) for row in concerned],
        [(row.challenger.label == name) == (row.truth == name) for row in concerned],
    )


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
