"""What is known of a version when it is sealed: report.json, beside its manifest.

Figures are of hold-out rows that no training has seen. Row numbers and encoder passes are bounded by
[evaluate] of the spec, so that a training does not take noticeably longer for being examined.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trainer.artifact import MODEL, REPORT, Version
from trainer.calibrate import temperature
from trainer.crossfit import Judged, with_unseen
from trainer.evaluate import Answers, by_class, by_slice, compared, figures, right_of, share
from trainer.evaluate_sets import by_label, figures_of_sets, said_sets
from trainer.graph import Graph
from trainer.robustness import DAMAGES, robustness
from trainer.rows import HoldoutRow, Row, read_rows
from trainer.rungs import Made
from trainer.serving_cost import measure
from trainer.spec import TrainSpec
from trainer.splice import read_head
from trainer.tasks import Task, load
from trainer.tokens import encode

Array = np.ndarray[Any, np.dtype[Any]]
FORMAT = 1
Labelled = HoldoutRow | Row
Answerer = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A version that was made and not yet sealed, and what it is examined with."""

    spec: TrainSpec
    made: Made
    out: Path  # where its graph lies
    tokenizer: Tokenizer
    holdout: Sequence[HoldoutRow]
    truth: Sequence[str]  # labels of the training rows, in the order of made.embeddings
    parent: Version | None
    control: dict[str, Any] | None  # the comparison with a fresh training, where there was one
    judged: Judged | None = None  # rows that a head was cross-fitted on


def examine(version: Examined) -> dict[str, Any]:
    """The whole report, JSON-able."""
    spec, made = version.spec, version.made
    task = load(spec.model.task)
    rows = asked(version.holdout, made.labels, spec.evaluate.rows, task=task)
    answers = _answers(version, rows)
    unseen = with_unseen(answers.logits, answers.truth, made.unseen, version.judged, made.labels)
    heat = temperature(*unseen, task.decode)
    tuned = task.thresholds(task.decode(answers.logits, heat), answers.truth)
    answers = replace(answers, bars=_bars(tuned, heat))
    limit = spec.evaluate.tokens
    ids = encode(version.tokenizer, [row.text for row in rows])
    few = within([len(one) for one in ids], limit // len(DAMAGES))
    return {
        "format": FORMAT,
        "seed": spec.fit.seed,
        **_held(answers, made.labels, heat, spec.fit.seed, tuned),
        "slices": by_slice(answers),
        "overfitting": _overfitting(version, answers),
        "robustness": _robustness(made, [rows[place] for place in few], answers.at(few), spec.fit.seed),
        "forgetting": _forgetting(version, rows, answers),
        "serving": measure(version.out / MODEL, ids, tokens=limit, threads=spec.fit.threads),
        "control": version.control,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
    }


def _held(
    answers: Answers, labels: Sequence[str], heat: float, seed: int, tuned: list[float]
) -> dict[str, Any]:
    """Figures of the hold-out, whole and by class; of sets, if its truth are sets."""
    if answers.bars is None:
        found, classes = figures(answers, temperature=heat, seed=seed), by_class(answers, labels)
    else:
        found = figures_of_sets(answers, temperature=heat, seed=seed)
        classes = by_label(said_sets(answers, heat), answers.truth > 0, labels)
    return {"holdout": found | {"thresholds": tuned}, "classes": classes}


def _bars(thresholds: Sequence[float], heat: float) -> Array | None:
    """[labels] logits from which labels of a set are answered; None where the best label answers."""
    odds = np.array(thresholds)
    return heat * np.log(odds / (1 - odds)) if len(odds) else None


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """What the manifest keeps of a report: a few numbers, None where there are no rows."""
    held = report["holdout"]
    return {
        "rows": held["rows"],
        **{name: held[name] and held[name]["value"] for name in ("accuracy", "macro_f1")},
        **{name: held[name] and held[name]["scaled"] for name in ("nll", "ece")},
        **{name: held[name] for name in ("micro_f1", "hamming_loss") if name in held},
    }


def asked(
    holdout: Sequence[HoldoutRow], labels: Sequence[str], limit: int, *, task: Task | None = None
) -> list[HoldoutRow]:
    """At most `limit` labelled rows of known classes: the newest recent ones and, evenly spread, old ones.

    >>> rows = [HoldoutRow(text=str(n), label="a", slice="base" if n < 8 else "recent") for n in range(10)]
    >>> [row.text for row in asked(rows, ["a"], 4)]
    ['0', '7', '8', '9']
    """
    names, there = (task or load("classification")).names, set(labels)
    known = [row for row in holdout if row.label is not None and there.issuperset(names(row.label))]
    base = [row for row in known if row.slice == "base"]
    recent = [row for row in known if row.slice == "recent"]
    old = min(len(base), max(limit // 2, limit - len(recent)))
    spread: list[int] = np.linspace(0, len(base) - 1, old).astype(int).tolist() if old else []
    new = limit - old
    return [base[place] for place in spread] + (recent[-new:] if new else [])


def within(lengths: Sequence[int], tokens: int) -> list[int]:
    """As many positions, evenly spread, as `tokens` allow for.

    >>> within([5] * 10, 15), within([], 15)
    ([0, 4, 9], [])
    """
    if not lengths:
        return []
    count = int(min(len(lengths), tokens * len(lengths) / max(1, sum(lengths))))
    return [int(place) for place in np.linspace(0, len(lengths) - 1, count)]


def _answers(version: Examined, rows: Sequence[Labelled], bars: Array | None = None) -> Answers:
    made = version.made
    logits = made.logits([row.text for row in rows]) if rows else np.zeros((0, len(made.labels)))
    parts = [[row.slice] if isinstance(row, HoldoutRow) else [] for row in rows]
    return Answers(
        logits=logits,
        truth=_truth(version, [str(row.label) for row in rows]),
        slices=[[*part, *row.fields] for part, row in zip(parts, rows, strict=True)],
        bars=bars,
    )


def _truth(version: Examined, said: Sequence[str]) -> Array:
    """Targets, -1 of labels that the version does not know: it cannot answer them."""
    task, labels = load(version.spec.model.task), version.made.labels
    known = np.array([set(labels).issuperset(task.names(label)) for label in said], dtype=bool)
    found = task.targets([label for label, is_known in zip(said, known, strict=True) if is_known], labels)
    truth = np.full((len(said), *found.shape[1:]), -1, dtype=found.dtype)
    truth[known] = found
    return truth


def _overfitting(version: Examined, held: Answers) -> dict[str, Any]:
    """Accuracy on the rows it was trained on beside that on the hold-out."""
    head = read_head((version.out / MODEL).read_bytes())
    if len(version.truth) != len(version.made.embeddings):
        return {}
    right = right_of(head.logits(version.made.embeddings), _truth(version, version.truth), held.bars)
    trained = share(int(right.sum()), len(right))
    found = {"trained": trained, "holdout": share(int(held.right.sum()), len(held.truth))}
    if None in (found["trained"]["value"], found["holdout"]["value"]):
        return found
    return found | {"gap_points": 100 * (found["trained"]["value"] - found["holdout"]["value"])}


def _robustness(made: Made, rows: Sequence[HoldoutRow], answers: Answers, seed: int) -> dict[str, Any]:
    def right(texts: Sequence[str]) -> Array:
        return right_of(made.logits(texts), answers.truth, answers.bars) if texts else answers.right

    return robustness([row.text for row in rows], answers.right, right, seed=seed)


def _forgetting(version: Examined, rows: Sequence[HoldoutRow], answers: Answers) -> dict[str, Any]:
    """Old hold-out rows and the general set, answered by the parent and by this version."""
    parent, data = _parent(version), version.spec.data
    found: dict[str, Any] = {}
    if parent is not None:
        old = [place for place, row in enumerate(rows) if row.slice == "base"]
        found["hold-out"] = _lost(version, [rows[place] for place in old], answers.at(old), parent)
    if data.general is not None:
        general = read_rows(data.general, text=data.text, label=data.label, task=version.spec.model.task)
        lengths = [len(one) for one in encode(version.tokenizer, [row.text for row in general])]
        general = [general[place] for place in within(lengths, version.spec.evaluate.tokens)]
        found["general set"] = _lost(version, general, _answers(version, general, answers.bars), parent)
    return found


def _lost(
    version: Examined, rows: Sequence[Labelled], answers: Answers, parent: Answerer | None
) -> dict[str, Any]:
    if parent is None or not rows:
        return share(int(answers.right.sum()), len(rows))
    places: Sequence[int] = range(len(rows))
    if version.made.embed is None:  # the parent's encoder has to be asked
        lengths = [len(one) for one in encode(version.tokenizer, [row.text for row in rows])]
        places = within(lengths, version.spec.evaluate.tokens)
    said = parent([rows[place].text for place in places])
    before = [one == rows[place].label for one, place in zip(said, places, strict=True)]
    return compared(np.array(before), answers.at(places).right)


def _parent(version: Examined) -> Answerer | None:
    """Texts -> what the parent answers; its encoder is asked again only where it is another one."""
    parent, embed = version.parent, version.made.embed
    if parent is None:
        return None
    manifest = parent.manifest
    task = load(manifest.task)

    def said(logits: Array) -> list[str]:
        scores = task.decode(logits, manifest.temperature)
        return [label for label, _ in task.answers(scores, manifest.labels, manifest.thresholds)]

    if embed is not None:
        head = read_head(parent.model_bytes)
        return lambda texts: said(head.logits(embed(texts)))
    graph = Graph(parent.model_bytes, threads=version.spec.fit.threads)
    cut = Tokenizer.from_str(parent.tokenizer_bytes.decode())
    return lambda texts: said(graph.answers(encode(cut, texts))[0])


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a sealed version; None for one that was sealed without."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
