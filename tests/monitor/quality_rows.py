"""Served rows made by hand: a version that is right where it is sure, on traffic with new topics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sqlalchemy import Engine, insert

from exporter.prediction import columns
from exporter.tables import labels, predictions, reference, versions
from monitor.quality.correctness import Labelled, Served
from tests.exporter.rows import prediction

NAMES = ("no", "yes")


def served(rng: np.random.Generator, rows: int, *, worse: float = 0.0) -> tuple[Served, np.ndarray]:
    """(rows, truth [N]): scores mean what they say less `worse`; embeddings tell the truth on one axis."""
    score = 1 - 0.5 * rng.beta(1, 3, size=rows)
    answered = rng.integers(0, 2, rows)
    right = rng.random(rows) < score - worse
    truth = np.where(right, answered, 1 - answered)
    embedding = np.column_stack([2 * truth - 1.0, rng.normal(size=(rows, 7))]) / 3
    scores = np.where(np.eye(2)[answered] > 0, score[:, None], 1 - score[:, None])
    made = Served(
        answered=answered,
        score=score,
        similarity=rng.uniform(0.3, 0.9, rows),
        scores=scores,
        embedding=embedding,
    )
    return made, truth


def labelled(found: Served, truth: np.ndarray, rows: np.ndarray) -> Labelled:
    correct = (truth[rows] == found.answered[rows]).astype(np.float64)
    return Labelled(rows=rows, truth=truth[rows], correct=correct)


def store(db: Engine, found: Served, *, seed: int = 0, first: int = 0) -> list[str]:
    """Write rows as predictions of router v1, whose reference is 300 rows of before; returns the ids."""
    if first == 0:
        _version(db, np.random.default_rng(seed))
    assert found.embedding is not None
    made = [
        replace(
            prediction(first + row),
            label=NAMES[found.answered[row]],
            score=float(found.score[row]),
            scores=(1 - float(found.score[row]), float(found.score[row]))[
                :: 1 if found.answered[row] else -1
            ],
            similarity=float(found.similarity[row]),
            embedding=found.embedding[row].astype("<f2").tobytes(),
            metadata={"region": ("eu", "us")[row % 2], "load": 0.5, "vip": row % 97 == 0},
        )
        for row in range(len(found))
    ]
    with db.begin() as connection:
        connection.execute(insert(predictions), [columns(one) for one in made])
    return [one.id for one in made]


def tell(db: Engine, ids: list[str], truth: np.ndarray, rows: np.ndarray | list[int], *, at: float) -> None:
    """Store the labels of some rows."""
    told = [
        {"prediction_id": ids[row], "label": NAMES[truth[row]], "source": "test", "at": at} for row in rows
    ]
    with db.begin() as connection:
        connection.execute(insert(labels), told)


def _version(db: Engine, rng: np.random.Generator) -> None:
    before, truth = served(rng, 300)
    with db.begin() as connection:
        connection.execute(
            insert(versions).values(
                model="router",
                version="v1",
                number=1,
                state="champion",
                path="",
                manifest_sha256="",
                manifest={"labels": list(NAMES)},
                created_at=0.0,
            )
        )
        connection.execute(
            insert(reference),
            [
                {
                    "model": "router",
                    "version": "v1",
                    "row": row,
                    "in_reference": True,
                    "truth": NAMES[truth[row]],
                    "label": NAMES[before.answered[row]],
                    "score": float(before.score[row]),
                    "scores": [0.5, 0.5],
                    "similarity": float(before.similarity[row]),
                    "tokens": 3,
                    "characters": 9,
                }
                for row in range(300)
            ],
        )
