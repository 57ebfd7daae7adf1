"""Which rows are learnt from and which are kept to prove it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.rows import HoldoutRow, Row, check_rows, read_rows
from trainer.spec import TrainSpec


def prepare(spec: TrainSpec, spec_path: Path | None = None) -> tuple[list[Row], list[HoldoutRow]]:
    """(training rows, hold-out) of a spec, without a text in both; DataError names file and line.

    Relative paths of the spec are relative to `spec_path`, if given.
    """
    here = spec_path.resolve().parent if spec_path is not None else Path()
    path = here / spec.data.train
    columns: dict[str, Any] = {"text": spec.data.text, "label": spec.data.label, "slices": spec.data.slices}
    rows = read_rows(path, **columns)
    check_rows(rows, path)
    if spec.data.holdout is not None:
        held = read_rows(here / spec.data.holdout, **columns)
    else:
        rows, held = stratified(rows, spec.data.holdout_share, seed=spec.fit.seed)
    kept = {row.text for row in held}
    rows = [row for row in rows if row.text not in kept]
    check_rows(rows, path)
    return rows, [HoldoutRow(text=row.text, label=row.label, fields=row.fields) for row in held]


def stratified(rows: Sequence[Row], share: float, *, seed: int) -> tuple[list[Row], list[Row]]:
    """(rest, held out): `share` of every class, at least one row, never so many that fewer than two stay.

    Texts that occur several times fall on one side together with their first occurrence's class.
    """
    groups = _by_label(rows)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for _, texts in sorted(groups.items()):
        room = max(0, min(max(1, round(share * len(texts))), len(texts) - 2))
        held.update(texts[number] for number in rng.permutation(len(texts))[:room])
    return [row for row in rows if row.text not in held], [row for row in rows if row.text in held]


def _by_label(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Distinct texts of every class, each under the class of its first occurrence."""
    groups: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for row in rows:
        if row.text not in seen:
            seen.add(row.text)
            groups[row.label].append(row.text)
    return groups
