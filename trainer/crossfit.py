"""Cross-fitting: labelled rows that teach a version prove it too, each answered by a model that never saw it.

The judged rows are cut into FOLDS parts. The answer to a row is that of the same training without the row's
part; the version that is sealed learns from all of them. So a proof costs no labels: what it measures is the
recipe, trained on a little less than the sealed version. Source: Stone (1974), "Cross-validatory choice and
assessment of statistical predictions"; what such a figure estimates: Bates, Hastie, Tibshirani (2021),
"Cross-validation: what does it estimate and how well does it do it?".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.duplicates import LONG, repeats
from trainer.head import STRENGTH, Anchor, fit_head
from trainer.rows import HoldoutRow
from trainer.tabular import parquet_bytes, parquet_records, write_bytes
from trainer.tasks import load

Array = np.ndarray[Any, np.dtype[Any]]

FOLDS = 5
_COLUMNS = {
    "row": "int64",
    "fold": "int64",
    "truth": "string",
    "label": "string",
    "score": "float64",
    "truth_score": "float64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rows to cross-fit, labelled and among the training rows, and the file for what is answered."""

    rows: Sequence[HoldoutRow]
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """The answer to judged row `row` by the model trained without its fold."""

    row: int
    fold: int
    truth: str
    label: str
    score: float
    truth_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """Answers to the judged rows `rows`: logits [rows, labels], -inf where a fold did not know a label."""

    rows: Array
    folds: Array
    logits: Array


def cut(texts: Sequence[str]) -> Array:
    """Fold of each text [texts]: the text's for ever, and that of every text that nearly repeats it.

    By a hash, so that a retrain of the same labels is judged in the same folds, not drawn until it is lucky.

    >>> cut(["where is my new credit card", "Where is my new credit card?", "play a song"]).tolist()
    [4, 4, 0]
    """
    first = repeats(texts, LONG)
    alike = [texts[first.get(place, place)].encode() for place in range(len(texts))]
    numbers = [int.from_bytes(hashlib.sha256(text).digest()[:8]) % FOLDS for text in alike]
    return np.array(numbers, dtype=np.int64)


def out_of_fold(
    judged: Sequence[str],
    texts: Sequence[str],
    embeddings: Array,
    truth: Array,
    *,
    classes: int,
    weights: Array | None = None,
    anchor: Anchor | None = None,
    strength: float = STRENGTH,
) -> OutOfFold:
    """Answer the judged texts by heads that were trained without their fold.

    texts, embeddings [n, hidden] and truth [n]: every row; of truth -1 are those that are not learnt from.
    Judged texts that are no rows have no answer, nor has a fold without which one class is left. weights [n],
    anchor and strength are those of the head that is sealed.
    """
    place = {text: number for number, text in enumerate(texts)}
    there = np.array([row for row, text in enumerate(judged) if text in place], dtype=np.int64)
    at = np.array([place[judged[row]] for row in there], dtype=np.int64)
    folds = cut([judged[row] for row in there])
    fold_of = dict(zip((judged[row] for row in there), folds.tolist(), strict=True))
    of_row = np.array([fold_of.get(text, -1) for text in texts], dtype=np.int64)
    logits = np.full((len(there), classes), -np.inf, dtype=np.float32)
    for fold in np.unique(folds):
        kept = np.flatnonzero((of_row != fold) & (truth >= 0))
        present = np.unique(truth[kept]) if anchor is None else np.arange(classes)
        if len(present) > 1:
            head = fit_head(
                embeddings[kept],
                np.searchsorted(present, truth[kept]),
                classes=len(present),
                weights=None if weights is None else weights[kept],
                anchor=anchor,
                strength=strength,
            )
            asked = np.flatnonzero(folds == fold)
            logits[np.ix_(asked, present)] = head.logits(embeddings[at[asked]])
    known = np.isfinite(logits).any(axis=1) if classes else np.zeros(len(there), dtype=bool)
    return OutOfFold(rows=there[known], folds=folds[known], logits=logits[known])


def write_unseen(
    judged: Judged, found: OutOfFold, labels: Sequence[str], *, task: str, temperature: float
) -> None:
    """Write the answers as the sealed version would decode them."""
    scores = load(task).decode(found.logits, temperature) if len(found.rows) else found.logits
    number = {label: place for place, label in enumerate(labels)}
    answers = []
    for row, fold, given in zip(found.rows.tolist(), found.folds.tolist(), scores, strict=True):
        truth = str(judged.rows[row].label)
        best = int(given.argmax())
        truth_score = float(given[number[truth]]) if truth in number else 0.0
        answers.append(
            Unseen(
                row=row,
                fold=fold,
                truth=truth,
                label=labels[best],
                score=float(given[best]),
                truth_score=truth_score,
            )
        )
    write_bytes(judged.out, parquet_bytes([asdict(answer) for answer in answers], _COLUMNS))


def read_unseen(path: Path) -> list[Unseen]:
    """What `write_unseen` wrote."""
    return [Unseen(**record) for record in parquet_records(path.read_bytes())]


def with_unseen(
    logits: Array, truth: Array, found: OutOfFold | None, judged: Judged | None, labels: Sequence[str]
) -> tuple[Array, Array]:
    """(logits, label numbers) of a hold-out, and of the judged rows whose label the version knows."""
    if judged is None or found is None:
        return logits, truth
    number = {label: place for place, label in enumerate(labels)}
    told = np.array([number.get(str(judged.rows[row].label), -1) for row in found.rows], dtype=np.int64)
    known = told >= 0
    return np.concatenate([logits, found.logits[known]]), np.concatenate([truth, told[known]])
