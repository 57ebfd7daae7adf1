"""Sketches in the database: written when a version is registered, read by loaders and checks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, insert, select, update

from exporter.sketch import Sketch, fit_sketch, from_bytes, to_bytes
from exporter.tables import reference, sketches, versions

_KEPT = 64  # sketches in memory, about 100 kB each
# By name, which is a hash of the content, and slices.
_held: OrderedDict[tuple[str, tuple[str, ...]], Sketch] = OrderedDict()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRow:
    """One hold-out row as the exporter's engine answered it (`answered.AnsweredRow`)."""

    label: str
    score: float
    similarity: float | None
    characters: int
    embedding: bytes | None = None
    descriptors: tuple[float | None, ...] | None = None
    words: bytes | None = None
    run_ms: float = 0.0


def write_sketch(connection: Connection, model: str, version: str, sketch: Sketch) -> None:
    """Keep a version's sketch; a version has one."""
    row = {"model": model, "version": version, "name": sketch.name, "content": to_bytes(sketch)}
    connection.execute(insert(sketches), [row])


def read_sketch(connection: Connection, model: str, version: str) -> Sketch | None:
    """The version's sketch, None where it has no reference.

    A version that an earlier release registered gets one of what that release kept: without embeddings and
    descriptors, whose series then have no reference.
    """
    own = (sketches.c.model == model, sketches.c.version == version)
    found = connection.execute(select(sketches.c.name, sketches.c.slices).where(*own)).first()
    if found is None:
        return _of_reference(connection, model, version)
    key = found.name, tuple(found.slices or ())
    sketch = _held.get(key)
    if sketch is None:
        content = connection.execute(select(sketches.c.content).where(*own)).scalar_one()
        sketch = _held[key] = replace(from_bytes(content), slices=key[1])
        while len(_held) > _KEPT:
            _held.popitem(last=False)
    return sketch


def slice_by(db: Engine, model: str, version: str, keys: Sequence[str]) -> None:
    """Count the version's rows by these metadata keys too, from the next row on; all of them by `rebuild`.

    A version that an earlier release registered has no sketch of its own, and no slices.
    """
    own = (sketches.c.model == model, sketches.c.version == version)
    with db.connect() as connection:
        found = connection.execute(select(sketches.c.slices).where(*own)).first()
    if found is not None and tuple(found.slices or ()) != tuple(keys):
        with db.begin() as connection:
            connection.execute(update(sketches).where(*own).values(slices=list(keys) or None))


def _of_reference(connection: Connection, model: str, version: str) -> Sketch | None:
    columns = (reference.c[name] for name in ("label", "score", "similarity", "characters", "truth"))
    query = select(*columns).where(
        reference.c.model == model, reference.c.version == version, reference.c.in_reference
    )
    found = connection.execute(query.order_by(reference.c.row)).all()
    if not found:
        return None
    manifest = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    rows = [
        ReplayedRow(label=row.label, score=row.score, similarity=row.similarity, characters=row.characters)
        for row in found
    ]
    return fit_sketch(rows, [row.truth for row in found], connection.execute(manifest).scalar_one()["labels"])
