"""The answers of a version that are counted by number: its classes, or the commonest sets that it named.

A version that answers with sets could give more of them than anybody can count. Those that its replayed
reference holds most often have a number of their own; of all others it only matters whether answer and truth
are the same, so they share two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, select

from exporter.tables import reference, versions
from monitor.errors import UnknownModelVersionError
from trainer.tasks import load

Ints = npt.NDArray[np.int64]
OTHER, ANOTHER = "(other)", "(yet another)"


def answer_names(db: Engine, model: str, version: str) -> tuple[str, ...]:
    """Canonical labels in the order of their numbers. Raises UnknownModelVersionError."""
    query = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    with db.connect() as connection:
        manifest = connection.execute(query).scalar_one_or_none()
        if manifest is None:
            raise UnknownModelVersionError(model, version)
        if manifest.get("task", "classification") == "classification":
            return tuple(manifest["labels"])
        own = (reference.c.model == model, reference.c.version == version)
        answered = connection.scalars(select(reference.c.label).where(*own)).all()
    return (*load(manifest["task"]).vocabulary(manifest["labels"], answered), OTHER, ANOTHER)


def numbered(names: Sequence[str], answered: Sequence[str], truth: Sequence[str | None]) -> tuple[Ints, Ints]:
    """Numbers of answers and truths, equal where the labels are; -1 for what has none.

    >>> sets = ["a", OTHER, ANOTHER]
    >>> [found.tolist() for found in numbered(sets, ["a", "x", "x", "a"], ["a", "x", "y", None])]
    [[0, 1, 1, 0], [0, 1, 2, -1]]
    >>> [found.tolist() for found in numbered(["a", "b"], ["a", "b"], ["b", "new"])]
    [[0, 1], [1, -1]]
    """
    place = {name: number for number, name in enumerate(names)}
    other, another = place.get(OTHER, -1), place.get(ANOTHER, -1)
    said = [place.get(label, other) for label in answered]
    true = [
        -1 if right is None else place.get(right, other if right == label else another)
        for label, right in zip(answered, truth, strict=True)
    ]
    return np.array(said, dtype=np.int64), np.array(true, dtype=np.int64)
