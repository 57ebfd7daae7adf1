"""Which rows are learnt from and which are kept to prove it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.gather import gather, gather_holdout
from trainer.rows import HoldoutRow, Row, check_rows
from trainer.spec import TrainSpec
from trainer.tasks import load


def prepare(
    spec: TrainSpec, spec_path: Path | None = None, *, recorded: Sequence[Row] | None = None
) -> tuple[list[Row], list[HoldoutRow]]:
    """(training rows, hold-out) of a spec, without a text in both; DataError names file and line.

    Relative paths of the spec are relative to `spec_path`, if given. `recorded` are the rows of a spec that
    names a model's own predictions: whoever has the database reads them.
    """
    here = spec_path.resolve().parent if spec_path is not None else Path()
    task = spec.model.task
    rows, path = gather(spec, here, recorded)
    check_rows(rows, path, task)
    held = gather_holdout(spec, here)
    if held is None:
        rows, held = stratified(rows, spec.data.holdout_share, seed=spec.fit.seed, task=task)
    kept = {row.text for row in held}
    rows = [row for row in rows if row.text not in kept]
    check_rows(rows, path, task)
    return rows, [HoldoutRow(text=row.text, label=row.label, fields=row.fields) for row in held]


def stratified(
    rows: Sequence[Row], share: float, *, seed: int, task: str = "classification"
) -> tuple[list[Row], list[Row]]:
    """(rest, held out): `share` of every class, at least one row, never so many that fewer than two stay.

    Texts that occur several times fall on one side together with their first occurrence's class. A row of
    several classes counts for its rarest, as in Sechidis et al. (2011).
    """
    groups = _by_class(rows, task)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for _, texts in sorted(groups.items()):
        room = max(0, min(max(1, round(share * len(texts))), len(texts) - 2))
        held.update(texts[number] for number in rng.permutation(len(texts))[:room])
    return [row for row in rows if row.text not in held], [row for row in rows if row.text in held]


def _by_class(rows: Sequence[Row], task: str) -> dict[str, list[str]]:
    """Distinct texts of every class, each under the (rarest) class of its first occurrence."""
    first: dict[str, list[str]] = {}
    names = load(task).names
    for row in rows:
        first.setdefault(row.text, names(row.label))
    counts = Counter(name for found in first.values() for name in found)
    groups: dict[str, list[str]] = defaultdict(list)
    for text, found in first.items():
        groups[min(found, key=lambda name: (counts[name], name), default="")].append(text)
    return groups
