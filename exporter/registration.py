"""How a sealed directory becomes a candidate: copied, verified, replayed, recorded."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, func, insert, select

from exporter.database import lock_order
from exporter.descriptors import describe
from exporter.engines import Answer, open_engine
from exporter.errors import ModelNameError
from exporter.generating import reference as generated
from exporter.settings import Device, Precision
from exporter.sketch import Sketch, fit_sketch
from exporter.sketches import ReplayedRow, write_sketch
from exporter.tables import reference, versions
from trainer.artifact import Version
from trainer.decoder.sealed import DecoderVersion, Sealed, open_sealed
from trainer.tasks import load

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STALE_S = 86_400.0
_ORDER = 7_301_001


def register(
    db: Engine,
    home: Path,
    directory: Path,
    *,
    threads: int,
    now: float,
    device: Device = "cpu",
    precision: Precision = "auto",
) -> str:
    """Copy a sealed directory into `home`, replay its hold-out, record it as a candidate; returns "vN".

    Verified where it lies and again where it will be served from. Registering the same manifest twice returns
    the version it already is. A crash leaves either the whole version or a staging folder that later goes.
    Raises trainer.errors.VersionRefusedError, ModelNameError, DeviceError.
    """
    given = open_sealed(directory)
    model = checked_name(given.manifest.model)
    known = _registered(db, model, given.manifest_sha256)
    if known is not None:
        return known
    staging = home / "versions" / ".staging"
    _sweep(staging, now)
    staged = staging / uuid4().hex
    _copy(directory, staged)
    version = open_sealed(staged)
    answers = replay(version, threads=threads, device=device, precision=precision)
    with db.begin() as connection:
        lock_order(connection, _ORDER)
        known = _known(connection, model, given.manifest_sha256)  # another may have been faster
        if known is None:
            return _record(connection, home, version, answers, now)
    shutil.rmtree(staged, ignore_errors=True)
    return known


def replay(
    version: Sealed, *, threads: int, device: Device = "cpu", precision: Precision = "auto"
) -> list[Answer]:
    """The hold-out answered by the engine that will serve: training and serving cannot differ."""
    engine = open_engine(version, threads=threads, device=device, precision=precision)
    try:
        return engine.run([row.text for row in version.holdout]) if version.holdout else []
    finally:
        engine.close()


def checked_name(model: str) -> str:
    """`model`, if it can be a folder and a metric label.

    >>> checked_name("router")
    'router'
    """
    if not _NAME.fullmatch(model):
        raise ModelNameError(model)
    return model


def _registered(db: Engine, model: str, manifest_sha256: str) -> str | None:
    with db.connect() as connection:
        return _known(connection, model, manifest_sha256)


def _known(connection: Connection, model: str, manifest_sha256: str) -> str | None:
    query = select(versions.c.version).where(
        versions.c.model == model, versions.c.manifest_sha256 == manifest_sha256
    )
    return connection.scalars(query.order_by(versions.c.number)).first()


def _record(
    connection: Connection, home: Path, version: Sealed, answers: Sequence[Answer], now: float
) -> str:
    model = version.manifest.model
    highest = connection.scalar(select(func.max(versions.c.number)).where(versions.c.model == model))
    number = (highest or 0) + 1
    name = f"v{number}"
    path = home / "versions" / model / name
    if path.exists():  # left by a crash before the commit, or of another database in this home
        aside = home / "versions" / ".staging" / uuid4().hex
        path.rename(aside)
        os.utime(aside)  # kept for a day
    path.parent.mkdir(parents=True, exist_ok=True)
    version.path.rename(path)
    _sync(path.parent)
    connection.execute(
        insert(versions).values(
            model=model,
            version=name,
            number=number,
            parent=version.manifest.parent,
            state="candidate",
            path=str(path.absolute()),
            manifest_sha256=version.manifest_sha256,
            manifest=version.manifest.model_dump(mode="json"),
            created_at=now,
        )
    )
    if isinstance(version, Version):
        _record_reference(connection, version, name, answers)
    else:
        _record_generated(connection, replace(version, path=path), name)
    return name


def _record_generated(connection: Connection, version: DecoderVersion, name: str) -> None:
    rows = generated.reference_rows(version, name)
    if rows:
        connection.execute(insert(reference), rows)
    sketch = generated.sketch_of(version)
    if sketch is not None:
        write_sketch(connection, version.manifest.model, name, sketch)


def _record_reference(connection: Connection, version: Version, name: str, answers: Sequence[Answer]) -> None:
    rows = _reference_rows(version, name, answers)
    if rows:
        connection.execute(insert(reference), rows)
    if any(row.in_reference for row in version.holdout):
        write_sketch(connection, version.manifest.model, name, sketch_of(version, answers))


def sketch_of(version: Version, answers: Sequence[Answer]) -> Sketch:
    """What later rows are counted against: the hold-out as it was answered, `in_reference` rows only."""
    labels = load(version.manifest.task).vocabulary(
        version.manifest.labels, [answer.label for answer in answers]
    )
    pairs = [pair for pair in zip(version.holdout, answers, strict=True) if pair[0].in_reference]
    rows = [_replayed(row.text, answer) for row, answer in pairs]
    return fit_sketch(rows, [row.label for row, _ in pairs], labels, nearest=version.nearest)


def _replayed(text: str, answer: Answer) -> ReplayedRow:
    described = describe(text)
    return ReplayedRow(
        label=answer.label,
        score=answer.score,
        similarity=answer.similarity,
        characters=len(text),
        embedding=answer.embedding,
        descriptors=described.numbers,
        words=described.words,
    )


def _reference_rows(version: Version, name: str, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [
        {
            "model": version.manifest.model,
            "version": name,
            "row": number,
            "in_reference": row.in_reference,
            "truth": row.label,
            "label": answer.label,
            "score": answer.score,
            "scores": list(answer.scores),
            "similarity": answer.similarity,
            "tokens": answer.tokens,
            "characters": len(row.text),
        }
        for number, (row, answer) in enumerate(zip(version.holdout, answers, strict=True))
    ]


def _copy(directory: Path, target: Path) -> None:
    shutil.copytree(directory, target, symlinks=True)
    for path in [*target.iterdir(), target, target.parent]:
        _sync(path)


def _sweep(staging: Path, now: float) -> None:
    """Remove what crashed registrations left, a day later: another process may be at work here."""
    staging.mkdir(parents=True, exist_ok=True)
    for left in staging.iterdir():
        if now - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
