"""Sketches in the database: written when a version is registered, read by loaders and checks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from exporter.sketch import Sketch, fit_sketch, from_bytes, to_bytes
from exporter.tables import reference, sketches, versions

_KEPT = 64  # sketches in memory, about 100 kB each
_held: OrderedDict[str, Sketch] = OrderedDict()  # by name: a name is a hash of the content


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
    name = connection.scalar(select(sketches.c.name).where(*own))
    if name is None:
        return _of_reference(connection, model, version)
    sketch = _held.get(name)
    if sketch is None:
        sketch = from_bytes(connection.execute(select(sketches.c.content).where(*own)).scalar_one())
        _held[name] = sketch
        while len(_held) > _KEPT:
            _held.popitem(last=False)
    return sketch


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
