"""Any number of labels for each text, none included; the canonical form is the JSON list of the sorted names.

Each label has a sigmoid and a threshold of its own. The score of an answer is the probability of exactly that
set, with the labels taken as independent given the text: it means how often such an answer is wholly right,
as the score of a single label does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.cells import Cell, short
from trainer.errors import CellError
from trainer.tasks import most_frequent

Array = np.ndarray[Any, np.dtype[Any]]
USUAL = 0.5
FEWEST = 8  # hold-out rows with a label, and rows without it, from which its threshold is tuned
GRID = np.linspace(0.05, 0.95, 37)
MEND = 'Write a list of names, such as ["billing", "urgent"]; [] where none applies.'


def parse(text: Cell, label: Cell) -> tuple[str, str]:
    """The text as it is, the label from a list of names or, in CSV and SQL, from the JSON of one."""
    return text.string(), canonical(_listed(label))


def spelled(label: str) -> str:
    """The set that a JSON list names.

    >>> spelled('["urgent","billing"]')
    '["billing", "urgent"]'
    """
    try:
        return canonical(_listed(Cell("the label", label)))
    except CellError as error:
        raise ValueError(str(error)) from error


def canonical(found: Sequence[str]) -> str:
    """The one spelling of a set of names.

    >>> canonical(["urgent", "billing", "urgent"])
    '["billing", "urgent"]'
    """
    return json.dumps(sorted(set(found)), ensure_ascii=False)


def names(label: str) -> list[str]:
    """The names of a set; ValueError where it is not in canonical form.

    >>> names('["billing", "urgent"]')
    ['billing', 'urgent']
    """
    try:
        found = json.loads(label)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{short(label)} is not a list of names. {MEND}") from error
    if not isinstance(found, list) or not all(isinstance(name, str) and name.strip() for name in found):
        raise ValueError(f"{short(label)} is not a list of names. {MEND}")
    if canonical(found) != label:
        raise ValueError(f"{short(label)} is not sorted or repeats a name: write {canonical(found)}")
    return found


def targets(labels: Sequence[str], classes: Sequence[str]) -> Array:
    """0 or 1, float32 [rows, classes].

    >>> targets(['["b"]', '[]'], ["a", "b"]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    number = {name: place for place, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in enumerate(labels):
        found[row, [number[name] for name in names(label)]] = 1
    return found


def decode(logits: Array, temperature: float) -> Array:
    """Sigmoid of logits [rows, labels] divided by the version's temperature.

    >>> decode(np.array([[2.0, -2.0]]), 2.0).round(3).tolist()
    [[0.731, 0.269]]
    """
    scaled = np.clip(logits.astype(np.float64) / temperature, -500, 500)
    return np.asarray(1 / (1 + np.exp(-scaled)))


def thresholds(scores: Array, targets: Array) -> list[float]:
    """Per label the score from which F1 is highest; USUAL where fewer than FEWEST rows have or lack it.

    Of several equally good ones that next to USUAL is taken: it depends least on these very rows.

    >>> thresholds(np.linspace(0.05, 0.6, 24)[:, None], (np.arange(24) >= 12)[:, None] * 1.0)
    [0.325]
    """
    if not len(scores):
        return [USUAL] * scores.shape[1]
    return [_threshold(scores[:, place], targets[:, place] > 0) for place in range(scores.shape[1])]


def answers(scores: Array, classes: Sequence[str], thresholds: Sequence[float]) -> list[tuple[str, float]]:
    """The labels that reach their thresholds.

    >>> answers(np.array([[0.9, 0.4]]), ["a", "b"], [0.5, 0.4])
    [('["a", "b"]', 0.36000000000000004)]
    """
    chosen = scores >= np.array(thresholds or [USUAL] * len(classes))
    sure = np.where(chosen, scores, 1 - scores).prod(axis=1)
    return [
        (canonical([classes[place] for place in np.flatnonzero(row).tolist()]), float(one))
        for row, one in zip(chosen, sure, strict=True)
    ]


def vocabulary(_classes: Sequence[str], answered: Sequence[str]) -> list[str]:
    """The sets that are answered most often."""
    return most_frequent(answered)


def told(label: str, _parts: Sequence[float]) -> dict[str, Any]:
    """The names as a list."""
    return {"labels": names(label)}


def probability(label: str, scores: Sequence[float], classes: Sequence[str]) -> float:
    """Probability of exactly this set.

    >>> round(probability('["a"]', [0.9, 0.4], ["a", "b"]), 6), probability('["c"]', [0.9, 0.4], ["a", "b"])
    (0.54, 0.0)
    """
    wanted = set(names(label))
    if not wanted <= set(classes):
        return 0.0
    return float(
        np.prod([one if name in wanted else 1 - one for name, one in zip(classes, scores, strict=True)])
    )


def _listed(label: Cell) -> list[str]:
    value = label.present()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CellError(f"{label.column} is {short(value)}, not a list", MEND) from error
    if not isinstance(value, list):
        raise CellError(f"{label.column} is {short(value)}, not a list", MEND)
    return [Cell(f"a name in {label.column}", name).string().strip() for name in value]


def _threshold(scores: Array, truth: Array) -> float:
    if min(int(truth.sum()), int((~truth).sum())) < FEWEST:
        return USUAL
    said = scores[None, :] >= GRID[:, None]  # [thresholds, rows]
    hits = (said & truth).sum(axis=1)
    f1 = 2 * hits / (said.sum(axis=1) + truth.sum())
    best = GRID[f1 >= f1.max() - 1e-12]
    return round(float(best[np.abs(best - USUAL).argmin()]), 4)
