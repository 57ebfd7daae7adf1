"""Rows whose label has changed its meaning: found by the answers that were right before and are wrong now.

New labels beside old ones that contradict them teach a compromise (on CLINC150 with two of ten classes
renamed, 600 labels alone beat the same 600 appended to 3,000 stale rows). So a class is put to the test where
new text cannot be the reason: only rows as close to the training text as the nearer half of the reference
count. Where the champion's answer `a` is proven wrong more often there than it was on the reference (Fisher's
exact test, Holm 1979 over classes), an old row of class `a` is stale if most of the recent rows answered `a`
that lie nearest to it have another truth. Other classes, and the part of `a` that kept its meaning, stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Connection, Engine, select
from sqlalchemy import Row as Found

from exporter import registry
from exporter.engines import open_engine
from exporter.tables import reference
from monitor.verdict import holm
from trainer.artifact import open_version
from trainer.rows import HoldoutRow, Row

LEVEL = 0.01  # that any class is taken for renamed where none is
LEAST_RISE = 0.25  # of the share of wrong answers: below, the class has become harder, not another
LEAST_WRONG = 5  # rows
NEIGHBOURS = 3  # odd: most of them decide

_log = structlog.get_logger("trueup.stale")
Floats = np.ndarray[Any, np.dtype[Any]]
Embed = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A labelled answer. `similarity` is the cosine to the nearest training text."""

    said: str
    truth: str
    similarity: float


def find_stale(
    db: Engine, model: str, parent: str, recent: list[Found[Any]], before: Sequence[Row | HoldoutRow]
) -> set[str]:
    """Texts of `before` whose label means something else in `recent`; see above."""
    known = [found for found in recent if found.similarity is not None and found.embedding]
    seen = [Seen(said=found.said, truth=found.truth, similarity=found.similarity) for found in known]
    with db.connect() as connection:
        names = renamed(_answered(connection, model, parent), seen)
    if not names:
        return set()
    engine = open_engine(open_version(registry.version_path(db, model, parent)), threads=1)
    try:
        stale = stale_texts(
            names,
            {row.text: row.label for row in before if row.label is not None},
            [(one, _vector(found.embedding)) for one, found in zip(seen, known, strict=True)],
            lambda texts: np.stack([_vector(answer.embedding) for answer in engine.run(texts)]),
        )
    finally:
        engine.close()
    _log.warning("labels changed their meaning", model=model, classes=names, rows=len(stale))
    return stale


def _answered(connection: Connection, model: str, version: str) -> list[Seen]:
    """The version's answers to its own hold-out, where the truth is known."""
    columns = (reference.c.label, reference.c.truth, reference.c.similarity)
    statement = select(*columns).where(reference.c.model == model, reference.c.version == version)
    statement = statement.where(reference.c.truth.is_not(None), reference.c.similarity.is_not(None))
    return [
        Seen(said=said, truth=truth, similarity=near) for said, truth, near in connection.execute(statement)
    ]


def _vector(embedding: bytes) -> Floats:
    return np.frombuffer(embedding, dtype="<f2").astype(np.float32)


def renamed(before: Sequence[Seen], now: Sequence[Seen]) -> tuple[str, ...]:
    """Classes whose familiar rows are wrong far more often than before, in order; () without enough rows.

    >>> fine = [Seen(said=one, truth=one, similarity=0.9) for one in "ab" * 50]
    >>> moved = [Seen(said=said, truth=truth, similarity=0.9) for said, truth in ("ac", "bb") * 8]
    >>> renamed(fine, moved), renamed(fine, fine)
    (('a',), ())
    """
    if not before:
        return ()
    familiar = float(np.median([row.similarity for row in before]))
    then, here = (_wrong([row for row in rows if row.similarity >= familiar]) for rows in (before, now))
    classes = sorted(set(then) & set(here))
    ps = holm([_fisher(here[name], then[name]) for name in classes])
    return tuple(
        name
        for name, p in zip(classes, ps, strict=True)
        if p <= LEVEL
        and here[name][0] >= LEAST_WRONG
        and here[name][0] / here[name][1] - then[name][0] / then[name][1] >= LEAST_RISE
    )


def contradicted(old: Floats, recent: Floats, agrees: Sequence[bool]) -> list[bool]:
    """Whether most of the NEIGHBOURS recent rows nearest to each old row disagree with its class.

    old: [n, hidden] unit rows of one class; recent: [m, hidden] rows answered with it, and which of them it
    was the truth of.

    >>> contradicted(np.eye(2), np.eye(2)[[0, 0, 0, 1, 1, 1]], [False] * 3 + [True] * 3)
    [True, False]
    """
    near = np.argsort(-(old @ recent.T), axis=1)[:, :NEIGHBOURS]
    told = np.asarray(agrees, dtype=np.float64)[near]
    return [bool(share < 0.5) for share in told.mean(axis=1)]


def stale_texts(
    names: Sequence[str],
    old: Mapping[str, str],
    recent: Sequence[tuple[Seen, Floats]],
    embed: Embed,
) -> set[str]:
    """Texts of `old` (text -> label) that the recent rows of the renamed classes `names` contradict."""
    stale: set[str] = set()
    for name in names:
        texts = [text for text, label in old.items() if label == name]
        answered = [(seen.truth == name, row) for seen, row in recent if seen.said == name]
        if not texts or not answered:
            continue
        verdicts = contradicted(
            embed(texts), np.stack([row for _, row in answered]), [agrees for agrees, _ in answered]
        )
        stale |= {text for text, found in zip(texts, verdicts, strict=True) if found}
    return stale


def _wrong(rows: Sequence[Seen]) -> dict[str, tuple[int, int]]:
    """(wrong, rows) of each answer."""
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        wrong, seen = counts.get(row.said, (0, 0))
        counts[row.said] = (wrong + (row.said != row.truth), seen + 1)
    return counts


def _fisher(now: tuple[int, int], before: tuple[int, int]) -> float:
    """One-sided exact p that `now` = (wrong, rows) is wrong no more often than `before`."""
    from scipy.stats import hypergeom  # noqa: PLC0415 - half a second to import

    wrong, rows = now[0] + before[0], now[1] + before[1]
    return float(hypergeom.sf(now[0] - 1, rows, wrong, now[1]))
