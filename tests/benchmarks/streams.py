"""Streams of real text with a change in them: a head trained afresh, its hold-out, clean and changed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.descriptors import describe
from exporter.sketch import Sketch, fit_sketch
from exporter.sketches import ReplayedRow
from monitor.ranks import Ints
from tests.benchmarks import texts as source
from tests.benchmarks.clinc import OLD_INTENTS

TRAIN_ROWS = 1500
FOREIGN = "-"  # the truth of a row whose class the head does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Texts with their truth, described and embedded once."""

    embedding: npt.NDArray[np.float16]  # [n, hidden]
    truth: npt.NDArray[np.str_]  # [n]
    described: Sequence[tuple[Any, bytes, int]]  # descriptors, words, characters

    def take(self, rows: Ints) -> Pool:
        return Pool(
            embedding=self.embedding[rows],
            truth=self.truth[rows],
            described=[self.described[row] for row in rows.tolist()],
        )

    @property
    def size(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One run: a sketch, and rows placed in its cells [n, series] right (1) or wrong (0), and the truth."""

    sketch: Sketch
    clean: Ints
    clean_right: Ints
    changed: Ints
    changed_right: Ints
    truth: npt.NDArray[np.str_]  # of clean and changed rows


@dataclass(frozen=True, slots=True)
class Head:
    labels: tuple[str, ...]
    model: Any
    nearest: npt.NDArray[np.float16]

    def answer(self, pool: Pool) -> list[ReplayedRow]:
        scores = self.model.predict_proba(pool.embedding.astype(np.float32))
        near = (pool.embedding.astype(np.float32) @ self.nearest.astype(np.float32).T).max(axis=1)
        return [
            ReplayedRow(
                label=self.labels[int(best)],
                score=round(float(row[best]), 7),
                similarity=float(similarity),
                characters=characters,
                embedding=vector.astype("<f2").tobytes(),
                descriptors=descriptors,
                words=words,
            )
            for row, best, similarity, vector, (descriptors, words, characters) in zip(
                scores, scores.argmax(axis=1), near, pool.embedding, pool.described, strict=True
            )
        ]


def train(pool: Pool) -> Head:
    """A linear head on the frozen encoder's embeddings."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=20.0, max_iter=300)
    model.fit(pool.embedding.astype(np.float32), pool.truth)
    return Head(labels=tuple(model.classes_.tolist()), model=model, nearest=pool.embedding)


def run(
    base: Pool, changed: Callable[[Pool, np.random.Generator], Pool], *, reference: int, clean: int, seed: int
) -> Stream:
    """Train on TRAIN_ROWS of `base`, replay `reference` others, and answer the rest; rows are never reused.

    `changed` makes the changed rows from the part of `base` that nobody has seen.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(base.size)
    parts = np.split(order, np.cumsum([TRAIN_ROWS, reference, clean]))
    head = train(base.take(parts[0]))
    held = base.take(parts[1])
    sketch = fit_sketch(head.answer(held), held.truth.tolist(), head.labels, nearest=head.nearest)
    before, after = base.take(parts[2]), changed(base.take(parts[3]), rng)
    return Stream(
        sketch=sketch,
        clean=sketch.place(head.answer(before)),
        clean_right=_right(head, before),
        changed=sketch.place(head.answer(after)),
        changed_right=_right(head, after),
        truth=np.concatenate([before.truth, after.truth]),
    )


def _right(head: Head, pool: Pool) -> Ints:
    answers = np.array([row.label for row in head.answer(pool)])
    right: Ints = (answers == pool.truth).astype(np.int64)
    return right


def pool_of(texts: Sequence[str], truth: Sequence[str]) -> Pool:
    """Texts described and embedded."""
    described = [(found.numbers, found.words, len(text)) for text in texts for found in [describe(text)]]
    return Pool(embedding=source.embedded(texts), truth=np.array(truth), described=described)


def mixed(base: Pool, other: Pool, share: float) -> Pool:
    """`share` of the rows from `other`, the rest from `base`, in random order by the caller."""
    added = int(base.size * share / (1 - share))
    take = np.arange(min(added, other.size))
    more = other.take(take)
    kept = base.take(np.arange(round(more.size * (1 - share) / share)))
    return joined(kept, more)


def joined(a: Pool, b: Pool) -> Pool:
    return Pool(
        embedding=np.concatenate([a.embedding, b.embedding]),
        truth=np.concatenate([a.truth, b.truth]),
        described=[*a.described, *b.described],
    )


def shuffled(pool: Pool, rng: np.random.Generator) -> Pool:
    return pool.take(rng.permutation(pool.size))


@cache
def clinc() -> tuple[Pool, Pool, npt.NDArray[np.str_]]:
    """CLINC150 by domain: known intents, new intents of the same domains, and the known rows' intents."""
    known, new = _clinc_rows()
    pools = [pool_of([row["text"] for row in part], [row["domain"] for row in part]) for part in (known, new)]
    return pools[0], pools[1], np.array([row["intent"] for row in known])


def _clinc_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows = [row for row in source.read("clinc150") if row["domain"] != "oos"]
    intents: dict[str, set[str]] = {}
    for row in rows:
        intents.setdefault(row["domain"], set()).add(row["intent"])
    old = {intent for names in intents.values() for intent in sorted(names)[:OLD_INTENTS]}
    new = [row for row in rows if row["intent"] not in old]
    chosen = np.random.default_rng(0).choice(len(new), 4000, replace=False)
    return [row for row in rows if row["intent"] in old], [new[row] for row in chosen.tolist()]


@cache
def clinc_typos(share: float = 0.05, rows: int = 4000) -> tuple[Ints, Pool]:
    """Rows of `clinc()`'s known pool, and the same with typos."""
    known, _ = _clinc_rows()
    chosen = np.sort(np.random.default_rng(0).choice(len(known), rows, replace=False))
    texts = source.with_typos([known[row]["text"] for row in chosen.tolist()], share)
    return chosen, pool_of(texts, [known[row]["domain"] for row in chosen.tolist()])


@cache
def sentiment() -> tuple[Pool, Pool]:
    """Tweets with a sentiment, English and Spanish."""
    rows = source.read("xlmt_sentiment_en_es_de")
    parts = [[row for row in rows if row["language"] == language] for language in ("english", "spanish")]
    pools = [pool_of([row["text"] for row in part], [row["label"] for row in part]) for part in parts]
    return pools[0], pools[1]


@cache
def reviews() -> tuple[Pool, Pool]:
    """Positive and negative tweets, and movie reviews."""
    rows = [row for row in source.read("vader_domains") if row["label"] in ("positive", "negative")]
    names = sorted({row["domain"] for row in rows})
    tweet, movie = (next(name for name in names if word in name) for word in ("tweet", "movie"))
    parts = [[row for row in rows if row["domain"] == name][:3500] for name in (tweet, movie)]
    pools = [pool_of([row["text"] for row in part], [row["label"] for row in part]) for part in parts]
    return pools[0], pools[1]
