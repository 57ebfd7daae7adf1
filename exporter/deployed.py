"""The versions this process serves, kept equal to `deployments`: load first, then switch."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy import Row, select
from sqlalchemy.exc import SQLAlchemyError

from exporter.engines import Engine, open_engine
from exporter.errors import ExporterError, UnknownModelError
from exporter.instruments import Instruments
from exporter.tables import deployments, versions
from trainer.artifact import Manifest, open_version
from trainer.errors import TrainerError, VersionRefusedError

RETRY_S = 30.0  # a refused version is tried again: the disk may have come back

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Deployed:
    model: str
    version: str
    revision: int
    manifest: Manifest
    engine: Engine


@dataclass(frozen=True, slots=True)
class Refusal:
    version: str
    revision: int
    why: str
    at: float  # monotonic


class Fleet:
    """Every deployed model, loaded. `refresh` may run beside readers."""

    def __init__(self, db: Database, instruments: Instruments, *, threads: int, poll_s: float) -> None:
        self._db, self._instruments, self._threads, self._poll_s = db, instruments, threads, poll_s
        self._serving: dict[str, Deployed] = {}
        self._refused: dict[str, Refusal] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deployments", daemon=True)

    def start(self) -> None:
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def deployed(self, model: str) -> Deployed:
        """What serves `model` now. Raises UnknownModelError."""
        try:
            return self._serving[model]
        except KeyError:
            raise UnknownModelError(model) from None

    def serving(self) -> list[Deployed]:
        return [self._serving[model] for model in sorted(self._serving)]

    def refusals(self) -> dict[str, Refusal]:
        """Models whose deployed version could not be loaded; the one before keeps serving."""
        return dict(self._refused)

    def refresh(self) -> None:
        """Compare with the database once; a version that is refused changes nothing."""
        for row in _deployments(self._db):
            current = self._serving.get(row.model)
            if (current is None or current.revision != row.revision) and self._due(row):
                self._load(row, current)

    def _due(self, row: Row[Any]) -> bool:
        refusal = self._refused.get(row.model)
        return refusal is None or refusal.revision != row.revision or time.monotonic() - refusal.at > RETRY_S

    def _load(self, row: Row[Any], current: Deployed | None) -> None:
        try:
            self._switch(row, row.champion, current)
            self._refused.pop(row.model, None)
        except (TrainerError, ExporterError, OSError) as error:
            self._refuse(row, error)
            if current is None and row.previous is not None and row.model not in self._serving:
                self._fall_back(row)

    def _fall_back(self, row: Row[Any]) -> None:
        """At start nobody serves yet: the version before is better than none."""
        try:
            self._switch(row, row.previous, None, revision=-1)
        except (TrainerError, ExporterError, OSError) as error:
            _log.error("version_refused", model=row.model, version=row.previous, why=str(error))

    def _switch(
        self, row: Row[Any], version: str, current: Deployed | None, *, revision: int | None = None
    ) -> None:
        loaded = _open(
            self._db, row.model, version, row.revision if revision is None else revision, self._threads
        )
        self._serving[row.model] = loaded
        _log.info("version_serving", model=row.model, version=version, revision=loaded.revision)
        if current is not None:
            self._instruments.serving.labels(row.model, current.version).set(0)
            self._instruments.swaps.labels(row.model).inc()
        self._instruments.serving.labels(row.model, version).set(1)

    def _refuse(self, row: Row[Any], error: Exception) -> None:
        self._refused[row.model] = Refusal(row.champion, row.revision, str(error), time.monotonic())
        self._instruments.refused.labels(row.model).inc()
        _log.error("version_refused", model=row.model, version=row.champion, why=str(error))

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self.refresh()
            except SQLAlchemyError as error:
                _log.warning("deployments_not_read", error=type(error).__name__)
            except Exception:  # the loop must outlive what nobody foresaw; what serves keeps serving
                _log.exception("deployments_failed")


def _deployments(db: Database) -> list[Row[Any]]:
    columns = (
        deployments.c.model,
        deployments.c.champion,
        deployments.c.previous,
        deployments.c.revision,
    )
    with db.connect() as connection:
        return list(connection.execute(select(*columns)))


def _open(db: Database, model: str, version: str, revision: int, threads: int) -> Deployed:
    query = select(versions.c.path, versions.c.manifest_sha256)
    with db.connect() as connection:
        row = connection.execute(query.where(versions.c.model == model, versions.c.version == version)).one()
    opened = open_version(Path(row.path))
    if opened.manifest_sha256 != row.manifest_sha256:
        raise VersionRefusedError(opened.path, "its manifest is not the one that was registered")
    return Deployed(model, version, revision, opened.manifest, open_engine(opened, threads=threads))
