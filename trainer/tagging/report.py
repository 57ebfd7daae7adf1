"""What is known of a tagger when it is sealed: report.json, beside its manifest."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import MODEL, Version
from trainer.evaluate import compared, share
from trainer.head import Head
from trainer.report import asked
from trainer.rows import HoldoutRow, Row
from trainer.serving_cost import measure
from trainer.spec import TrainSpec
from trainer.splice import read_head
from trainer.tagging import TASK
from trainer.tagging.entities import entities
from trainer.tagging.evaluate import Read, answer, answer_heat, by_slice, figures, right_rows
from trainer.tagging.tagger import Encoder, truth_of
from trainer.tasks import load

Array = np.ndarray[Any, np.dtype[Any]]
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A tagger that was made and not yet sealed, and what it is examined with."""

    spec: TrainSpec
    encoder: Encoder
    head: Head
    classes: list[str]
    out: Path  # where its graph lies
    rows: Sequence[Row]  # that it learnt from
    holdout: Sequence[HoldoutRow]
    parent: Version | None  # of the same encoder

    def read(self, rows: Sequence[HoldoutRow | Row]) -> Read:
        """What it makes of rows."""
        labels = [str(row.label) for row in rows]
        states = self.encoder.states([row.text for row in rows]) if rows else None
        tokens = states.tokens if states is not None else []
        parts = [[row.slice] if isinstance(row, HoldoutRow) else [] for row in rows]
        return Read(
            tokens=tokens,
            logits=[self.head.logits(one.astype(np.float32)) for one in (states.states if states else [])],
            tags=[truth_of(*pair, self.classes) for pair in zip(tokens, labels, strict=True)],
            truth=[entities(label) for label in labels],
            slices=[[*part, *row.fields] for part, row in zip(parts, rows, strict=True)],
        )


def examine(version: Examined) -> dict[str, Any]:
    """The whole report, JSON-able."""
    spec, seed = version.spec, version.spec.fit.seed
    rows = asked(version.holdout, version.classes, spec.evaluate.rows, task=load(TASK))
    read = version.read(rows)
    heat = answer_heat(read)
    held, classes = figures(read, version.classes, heat=heat, seed=seed)
    right = _right(version, read, heat)
    ids = [one.ids for one in read.tokens]
    return {
        "format": FORMAT,
        "task": TASK,
        "seed": seed,
        "holdout": held | {"thresholds": []},
        "classes": classes,
        "slices": by_slice(read, right),
        "overfitting": _overfitting(version, right, heat),
        "robustness": {},
        "forgetting": _forgetting(version, rows, right),
        "serving": measure(version.out / MODEL, ids, tokens=spec.evaluate.tokens, threads=spec.fit.threads),
        "control": None,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
    }


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """What the manifest keeps of a report: a few numbers, None where there are no rows."""
    held = report["holdout"]
    shares = ("accuracy", "macro_f1", "entity_f1", "token_accuracy")
    return {
        "rows": held["rows"],
        **{name: held[name] and held[name]["value"] for name in shares},
        **{name: held[name] and held[name]["scaled"] for name in ("nll", "ece")},
    }


def _right(version: Examined, read: Read, heat: float) -> Array:
    pairs = zip(read.tokens, read.logits, strict=True)
    return right_rows(read, [answer(*pair, version.classes, heat) for pair in pairs])


def _overfitting(version: Examined, right: Array, heat: float) -> dict[str, Any]:
    """Share of wholly right texts among those it was trained on, beside that of the hold-out."""
    places = np.linspace(0, len(version.rows) - 1, min(len(version.rows), max(1, len(right)))).astype(int)
    learnt = _right(version, version.read([version.rows[place] for place in places]), heat)
    found = {
        "trained": share(int(learnt.sum()), len(learnt)),
        "holdout": share(int(right.sum()), len(right)),
    }
    if None in (found["trained"]["value"], found["holdout"]["value"]):
        return found
    return found | {"gap_points": 100 * (found["trained"]["value"] - found["holdout"]["value"])}


def _forgetting(version: Examined, rows: Sequence[HoldoutRow], right: Array) -> dict[str, Any]:
    """Old hold-out rows, answered by the parent's head on the same encoder and by this version."""
    old = [place for place, row in enumerate(rows) if row.slice == "base"]
    if version.parent is None or not old:
        return {}
    manifest = version.parent.manifest
    head = read_head(version.parent.model_bytes)
    states = version.encoder.states([rows[place].text for place in old])
    said = [
        answer(tokens, head.logits(one.astype(np.float32)), manifest.labels, manifest.temperature)
        for tokens, one in zip(states.tokens, states.states, strict=True)
    ]
    before = right_rows(version.read([rows[place] for place in old]), said)
    return {"hold-out": compared(before, right[old])}
