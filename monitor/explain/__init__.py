"""Why a model was paged: words, slices and texts that moved, what they are nearest to, and who absorbs them.

An explanation looks at a bounded sample, costs less than a CPU-second, and says what it could not see.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine

from monitor.errors import SealedFileError
from monitor.explain.classes import AbsorbingClass, absorbing
from monitor.explain.examples import choose_examples
from monitor.explain.rows import Rows, reference_answers, sample_rows
from monitor.explain.sealed import Sealed, find_sealed, training_rows
from monitor.explain.slices import MovedSlice, moved_slices
from monitor.explain.texts import shown
from monitor.explain.words import Words, moved_words
from monitor.windows import Floats

__all__ = ["Example", "Explanation", "Neighbour", "explain"]

LIMIT = 2000  # rows of each side that are looked at
EXAMPLES = 5
NEIGHBOURS = 3
MIN_ROWS = 30  # of the reference and of the sample: fewer are not enough data
MOVED_BELOW = 0.05  # quantile of the reference's similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A training text, redacted and cut, and its cosine to the example."""

    text: str | None
    label: str | None
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A current text, redacted and cut; `stands_for` of the least similar rows are nearest to it."""

    id: str
    text: str | None
    label: str
    truth: str | None
    score: float
    similarity: float
    stands_for: int
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`moved` counts the sampled rows that lie farther from training than 95 % of the reference."""

    model: str
    version: str
    first_seq: int
    last_seq: int
    rows: int  # sampled
    moved: int
    moved_share: float | None  # 0.05 without drift; None: not enough data
    words: Words
    slices: tuple[MovedSlice, ...]
    examples: tuple[Example, ...]
    classes: tuple[AbsorbingClass, ...]
    notes: tuple[str, ...]  # what could not be seen, and why

    def to_json(self) -> dict[str, Any]:
        """Plain data, without NaN."""
        return asdict(self)


def explain(
    db: Engine,
    home: Path,
    model: str,
    version: str,
    *,
    since_seq: int,
    until_seq: int,
    limit: int = LIMIT,
    seed: int = 0,
) -> Explanation:
    """Explain the rows with since_seq <= seq <= until_seq by the version's reference and its earlier rows.

    Raises UnknownModelVersionError.
    """
    sealed = find_sealed(db, model, version)
    with db.connect() as connection:
        now, before = (
            sample_rows(connection, model, version, since_seq=first, until_seq=last, limit=limit, seed=seed)
            for first, last in ((since_seq, until_seq), (0, since_seq - 1))
        )
        answers, similarity = reference_answers(connection, model, version)
    notes: list[str] = []
    moved = _moved(now.similarity, similarity, notes)
    known = int(np.isfinite(now.similarity).sum())
    return Explanation(
        model=model,
        version=version,
        first_seq=since_seq,
        last_seq=until_seq,
        rows=now.rows,
        moved=0 if moved is None else int(moved.sum()),
        moved_share=None if moved is None else int(moved.sum()) / known,
        words=_words(sealed, now, limit, seed, notes),
        slices=_slices(before, now, similarity, notes),
        examples=_examples(sealed, home / "data", now, moved, notes),
        classes=()
        if moved is None
        else absorbing([now.label[row] for row in np.flatnonzero(moved)], answers),
        notes=tuple(notes),
    )


def _moved(
    current: Floats, reference: Floats, notes: list[str]
) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    here, there = (values[np.isfinite(values)] for values in (current, reference))
    if min(here.size, there.size) < MIN_ROWS:
        notes.append(f"{here.size} current and {there.size} reference similarities: not enough data.")
        return None
    return current < np.quantile(there, MOVED_BELOW)


def _words(sealed: Sealed, now: Rows, limit: int, seed: int, notes: list[str]) -> Words:
    current = [text for text in now.text if text is not None]
    if not current and now.rows:
        notes.append("No texts are kept ([exporter] store_text), so no words and no example texts are shown.")
    reference: list[str] = []
    try:
        held = [row.text for row in sealed.holdout() if row.in_reference]
        chosen = np.random.default_rng(seed).permutation(len(held))[:limit]
        reference = [held[row] for row in chosen]
    except SealedFileError as problem:
        notes.append(str(problem))
    found = moved_words(reference, current)
    if current and not found.enough:
        notes.append(f"{len(current)} current and {len(reference)} reference texts: not enough data.")
    return found


def _slices(before: Rows, now: Rows, reference: Floats, notes: list[str]) -> tuple[MovedSlice, ...]:
    if not any(now.metadata):
        notes.append("No row has metadata, so there are no slices.")
        return ()
    if before.rows < MIN_ROWS:
        notes.append(f"{before.rows} earlier rows of this version: shares and accuracy are not compared.")
    return moved_slices(before, now, reference)


def _examples(
    sealed: Sealed, snapshots: Path, now: Rows, moved: Any, notes: list[str]
) -> tuple[Example, ...]:
    moved_rows = 0 if moved is None else int(moved.sum())
    chosen = choose_examples(now.similarity, now.embedding, moved=moved_rows, most=EXAMPLES)
    nearest = _neighbours(sealed, snapshots, now, [one.row for one in chosen], notes)
    return tuple(
        Example(
            id=now.ids[one.row],
            text=shown(now.text[one.row]),
            label=now.label[one.row],
            truth=now.truth[one.row],
            score=float(now.score[one.row]),
            similarity=float(now.similarity[one.row]),
            stands_for=one.stands_for,
            nearest=neighbours,
        )
        for one, neighbours in zip(chosen, nearest, strict=True)
    )


def _neighbours(
    sealed: Sealed, snapshots: Path, now: Rows, rows: list[int], notes: list[str]
) -> list[tuple[Neighbour, ...]]:
    """Of each of these rows, the nearest training rows that the version sealed."""
    if now.embedding is None or not rows:
        return [()] * len(rows)
    try:
        held = sealed.nearest()
        if held.shape[1] != now.embedding.shape[1]:
            return [()] * len(rows)
        cosine = now.embedding[rows] @ held.T
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :NEIGHBOURS]
        texts = training_rows(sealed, snapshots, order.ravel().tolist(), sealed_rows=len(held))
    except SealedFileError as problem:
        notes.append(str(problem))
        return [()] * len(rows)
    if texts is None:
        notes.append("The training rows of this version are not in this home, so their texts are not shown.")
        texts = [(None, None)] * order.size
    found = iter(texts)
    return [
        tuple(
            Neighbour(text=shown(text), label=label, similarity=round(float(cosine[row, place]), 4))
            for place, (text, label) in ((place, next(found)) for place in places)
        )
        for row, places in enumerate(order)
    ]
