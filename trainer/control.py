"""A fresh training beside an incremental one: does what was carried on still pay?

A head that builds on its parent, and that on its own, drifts away from what all rows would teach (Ash and
Adams 2020, arXiv:1910.08475). So every [fit] control_every such trainings the same rows are learnt from the
base model too; where that is proven better on the hold-out it becomes the candidate.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import MODEL, Version
from trainer.rows import HoldoutRow, Row
from trainer.rungs import Given, Made, make
from trainer.spec import FitTable
from trainer.tasks import Task, load

Array = np.ndarray[Any, np.dtype[Any]]
LEVEL = 0.05
COMPARED_ROWS = 300  # newest labelled rows of the hold-out


def steps(fit: FitTable, parent: Version | None) -> int:
    """How many trainings this one is away from a fresh one; 0: it is fresh itself."""
    if parent is None:
        return 0
    before = int(parent.manifest.metrics.get("incremental", 0))
    carried = fit.anchor > 0 or before > 0 or parent.manifest.rung != "head"
    return before + 1 if carried else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What was made, the rows it learnt, how many trainings it is away from a fresh one."""

    made: Made
    rows: list[Row]
    steps: int
    control: dict[str, Any] | None


def learn(given: Given, holdout: Sequence[HoldoutRow]) -> Lesson:
    """Train, and beside it a control where one is due; the chosen one's graph lies in `given.out`."""
    kept: list[int] = []

    def sift(embeddings: Array) -> list[int]:
        kept[:] = given.sift(embeddings)
        return kept

    made = make(replace(given, sift=sift))
    rows = [given.rows[place] for place in kept]
    away, every = steps(given.spec.fit, given.parent), given.spec.fit.control_every
    if not every or not away or away % every:
        return Lesson(made=made, rows=rows, steps=away, control=None)
    fresh, beside = _fresh(replace(given, rows=rows, weights=given.weights[kept]))
    task, known = load(given.spec.model.task), {*made.labels, *fresh.labels}
    labelled = [row for row in holdout if row.label is not None]
    held = [row for row in labelled if known.issuperset(task.names(str(row.label)))][-COMPARED_ROWS:]
    found = compare(right(made, held, task), right(fresh, held, task))
    if found["chosen"] == "fresh":
        (beside / MODEL).replace(given.out / MODEL)
    shutil.rmtree(beside)
    shutil.rmtree(beside.with_name(f"{beside.name}.checkpoints"), ignore_errors=True)
    if found["chosen"] == "fresh":
        return Lesson(made=fresh, rows=rows, steps=0, control=found)
    return Lesson(made=made, rows=rows, steps=away, control=found)


def _fresh(given: Given) -> tuple[Made, Path]:
    """The same rows learnt from the base model, and the folder of its graph."""
    beside = given.out.with_name(f".{given.out.name}.control")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    everything = list(range(len(given.rows)))
    fresh = replace(
        given,
        parent=None,
        known={},
        out=beside,
        sift=lambda _: everything,
        checkpoints=beside.with_name(f"{beside.name}.checkpoints"),
    )
    return make(fresh), beside


def compare(incremental: Array, fresh: Array) -> dict[str, Any]:
    """Right answers [rows] of both to the same rows; the fresh one is chosen where it is proven better.

    >>> compare(np.zeros(9, dtype=bool), np.arange(9) < 5)["chosen"]
    'fresh'
    """
    lost, won = int((incremental & ~fresh).sum()), int((~incremental & fresh).sum())
    p = sign_p(lost, won)
    chosen = "fresh" if p <= LEVEL else "incremental"
    return {"rows": len(fresh), "incremental_only": lost, "fresh_only": won, "p": p, "chosen": chosen}


def right(made: Made, rows: Sequence[HoldoutRow], task: Task) -> Array:
    """[rows] whether each was answered with its label."""
    if not rows:
        return np.zeros(0, dtype=bool)
    scores = task.decode(made.logits([row.text for row in rows]), 1.0)
    said = task.answers(scores, made.labels, [])
    return np.array([label == row.label for (label, _), row in zip(said, rows, strict=True)])


def sign_p(lost: int, won: int) -> float:
    """One-sided exact p that no more rows are won than lost in truth (sign test).

    >>> sign_p(0, 5), sign_p(0, 0)
    (0.03125, 1.0)
    """
    apart = lost + won
    return float(sum(math.comb(apart, wins) for wins in range(won, apart + 1)) / 2**apart)
