"""What a registered version sealed that explains it: its hold-out texts and its training rows.

Opening the whole version would hash and parse its graph; here only the file that is needed is read, and
checked against the sha256 that the registry keeps.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, select

from exporter.tables import versions
from monitor.errors import SealedFileError, UnknownModelVersionError
from monitor.windows import Window
from trainer.artifact import HOLDOUT, NEAREST
from trainer.errors import DataError
from trainer.known import learnt, nearest_numbers
from trainer.rows import HoldoutRow, holdout_from_bytes, read_snapshot
from trainer.spec import FitTable


@dataclass(frozen=True, slots=True)
class Sealed:
    """Where a version lies, and the manifest that it was registered with."""

    model: str
    version: str
    path: Path
    manifest: Mapping[str, Any]

    def read(self, name: str) -> bytes:
        """Bytes of one of its files; SealedFileError where they are not what was sealed."""
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise SealedFileError(self.model, self.version, name, str(error.strerror)) from error
        if hashlib.sha256(content).hexdigest() != self.manifest["files"].get(name):
            raise SealedFileError(self.model, self.version, name, "its sha256 differs from the manifest's")
        return content

    def holdout(self) -> list[HoldoutRow]:
        return holdout_from_bytes(self.read(HOLDOUT))

    def nearest(self) -> npt.NDArray[np.float32]:
        """Embeddings of training rows: unit rows [N, hidden]."""
        held = np.load(io.BytesIO(self.read(NEAREST)), allow_pickle=False)
        return np.asarray(held, dtype=np.float32)


def find_sealed(db: Engine, model: str, version: str) -> Sealed:
    """Look a version up. Raises UnknownModelVersionError."""
    query = select(versions.c.path, versions.c.manifest).where(
        versions.c.model == model, versions.c.version == version
    )
    with db.connect() as connection:
        found = connection.execute(query).one_or_none()
    if found is None:
        raise UnknownModelVersionError(model, version)
    return Sealed(model, version, Path(found.path), found.manifest)


def with_texts(db: Engine, reference: Window) -> Window:
    """A reference window with the sealed texts of its rows; as it was where the file is gone or altered."""
    try:
        held = find_sealed(db, reference.model, reference.version).holdout()
    except SealedFileError:
        return reference
    return replace(reference, text=tuple(held[int(row)].text for row in reference.ids))


def training_rows(
    sealed: Sealed, snapshots: Path, nearest: Sequence[int], *, sealed_rows: int
) -> list[tuple[str | None, str | None]] | None:
    """(text, label) of these rows of nearest.npy, which has `sealed_rows`; None without their snapshot.

    Raises SealedFileError where the snapshot was altered.
    """
    digest = sealed.manifest["data"]["sha256"]
    path = snapshots / f"{digest}.parquet"
    if not path.exists():
        return None
    try:
        rows = read_snapshot(path)
    except DataError as error:
        raise SealedFileError(sealed.model, sealed.version, path.name, error.problem) from error
    fit = FitTable.model_validate(sealed.manifest["spec"]["fit"])
    kept = learnt(rows, fit, sealed.manifest.get("dropped", []))
    numbers = nearest_numbers(len(kept), fit.seed)
    if len(numbers) != sealed_rows:
        return None
    return [(row.text, row.label) for row in (kept[numbers[number]] for number in nearest)]
