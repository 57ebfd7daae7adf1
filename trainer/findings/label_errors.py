"""Labels that are likely wrong: a model that never saw the row is sure of another class.

Confident learning (Northcutt, Jiang, Chuang 2021, arXiv:1911.00068) by cleanlab, over out-of-fold
probabilities of a linear head on frozen embeddings.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from trainer.findings import EXAMPLES, Action, Data, Finding, example
from trainer.head import fit_head
from trainer.tasks.classification import decode

Array = np.ndarray[Any, np.dtype[Any]]
ACTION: Action = "warn"
FOLDS = 5
SEED = 0  # of the folds
FEWEST = 2 * FOLDS  # rows of a class whose labels can be doubted


def find(data: Data) -> Finding | None:
    """Rows whose given label loses to another one, least credible first; None without embeddings."""
    if data.embeddings is None:
        return None
    counts = Counter(row.label for row in data.rows)
    labels = sorted(label for label, count in counts.items() if count >= FEWEST)
    places = [place for place, row in enumerate(data.rows) if row.label in set(labels)]
    if len(labels) < 2:
        return None
    truth = np.array([labels.index(data.rows[place].label) for place in places], dtype=np.int64)
    scores = out_of_fold(data.embeddings[places], truth, classes=len(labels))
    worst = _issues(truth, scores)
    if not len(worst):
        return None
    found = [places[number] for number in worst.tolist()]
    likely = [labels[number] for number in scores[worst].argmax(axis=1).tolist()]
    return Finding(
        kind="label_errors",
        message=f"{len(found)} of {len(data.rows)} labels are likely wrong",
        rows=tuple(found),
        examples=tuple(
            example(data, place, f"rather {other!r}")
            for place, other in list(zip(found, likely, strict=True))[:EXAMPLES]
        ),
    )


def out_of_fold(embeddings: Array, truth: Array, *, classes: int) -> Array:
    """Probabilities [rows, classes] of heads that did not see the row; `truth` [rows] holds every class
    at least FOLDS times."""
    from sklearn.model_selection import StratifiedKFold

    scores = np.zeros((len(truth), classes))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    for learnt, asked in folds.split(embeddings, truth):
        head = fit_head(embeddings[learnt], truth[learnt], classes=classes)
        scores[asked] = decode(head.logits(embeddings[asked]), 1.0)
    return scores


def _issues(truth: Array, scores: Array) -> Array:
    """Positions by self-confidence; "prune by class" found the most flips in our measurements."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - brings pandas

    return np.asarray(
        find_label_issues(
            truth,
            scores,
            filter_by="prune_by_class",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        ),
        dtype=np.int64,
    )
