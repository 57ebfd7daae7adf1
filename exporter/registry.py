"""Versions and which of them serves: registered once, promoted by compare-and-set, taken back in one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, insert, select, update

from exporter.database import NOW, upsert
from exporter.errors import (
    ChampionError,
    NothingToRollBackError,
    RejectedVersionError,
    UnknownModelError,
    UnknownVersionError,
)
from exporter.registration import checked_name, register, replay
from exporter.tables import VersionState, deployment_events, deployments, versions
from exporter.trials import end_trial
from trainer.decoder.sealed import Sealed, open_sealed
from trainer.errors import VersionRefusedError

__all__ = [
    "VersionRow",
    "champion",
    "checked_name",
    "list_versions",
    "models",
    "promote",
    "read_deployments",
    "read_version",
    "register",
    "reject",
    "replay",
    "rollback",
    "version_path",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    model: str
    version: str
    number: int
    parent: str | None
    state: VersionState
    path: Path
    manifest_sha256: str
    manifest: dict[str, Any]
    created_at: float
    serving: bool


def promote(
    db: Engine,
    model: str,
    version: str,
    *,
    expected: str | None,
    reason: str,
    actor: str,
    connection: Connection | None = None,
) -> bool:
    """Make `version` the champion if `expected` (None: nobody) still is; False if somebody was faster.

    Promoting the champion changes nothing. With `connection`, everything happens in the caller's transaction.
    """
    with _writing(db, connection) as active:
        state = _state(active, model, version)
        if state == "rejected":
            raise RejectedVersionError(model, version)
        if expected == version:
            return _champion(active, model) == version
        return _switch(active, model, version, expected, reason=reason, actor=actor)


def rollback(db: Engine, model: str, *, reason: str, actor: str, connection: Connection | None = None) -> str:
    """Make the previous champion serve again and return it; the one that failed is retired.

    With `connection`, everything happens in the caller's transaction.
    """
    with _writing(db, connection) as active:
        row = active.execute(
            select(deployments.c.champion, deployments.c.previous).where(deployments.c.model == model)
        ).one_or_none()
        if row is None or row.previous is None:
            raise NothingToRollBackError(model)
        _switch(active, model, row.previous, row.champion, reason=reason, actor=actor)
        # A second rollback must not bring back what the first one took away.
        active.execute(update(deployments).where(deployments.c.model == model).values(previous=None))
        return cast(str, row.previous)


def reject(db: Engine, model: str, version: str, *, connection: Connection | None = None) -> None:
    """Mark a version as never to be promoted."""
    with _writing(db, connection) as active:
        _state(active, model, version)
        if _champion(active, model) == version:
            raise ChampionError(model, version)
        _set_state(active, model, version, "rejected")


def champion(db: Engine, model: str) -> str | None:
    with db.connect() as connection:
        return _champion(connection, model)


def models(db: Engine) -> list[str]:
    """Every model with a registered version."""
    with db.connect() as connection:
        return list(connection.scalars(select(versions.c.model).distinct().order_by(versions.c.model)))


def list_versions(db: Engine, model: str | None = None) -> list[VersionRow]:
    """Oldest first, per model."""
    query = (
        select(versions, (deployments.c.champion == versions.c.version).label("serving"))
        .outerjoin(deployments, deployments.c.model == versions.c.model)
        .order_by(versions.c.model, versions.c.number)
    )
    if model is not None:
        query = query.where(versions.c.model == model)
    with db.connect() as connection:
        return [_version_row(dict(row)) for row in connection.execute(query).mappings()]


def version_path(db: Engine, model: str, version: str) -> Path:
    """Where a registered version lies. Raises UnknownModelError, UnknownVersionError."""
    with db.connect() as connection:
        rows = dict(
            connection.execute(
                select(versions.c.version, versions.c.path).where(versions.c.model == model)
            ).all()
        )
    if not rows:
        raise UnknownModelError(model)
    if version not in rows:
        raise UnknownVersionError(model, version)
    return Path(rows[version])


def read_deployments(db: Engine) -> list[Row[Any]]:
    """Model, champion, previous and revision of every deployed model."""
    columns = (deployments.c.model, deployments.c.champion, deployments.c.previous, deployments.c.revision)
    with db.connect() as connection:
        return list(connection.execute(select(*columns)))


def read_version(db: Engine, model: str, version: str) -> Sealed:
    """The sealed version, in memory. Raises VersionRefusedError where it is not what was registered."""
    query = select(versions.c.path, versions.c.manifest_sha256)
    with db.connect() as connection:
        row = connection.execute(query.where(versions.c.model == model, versions.c.version == version)).one()
    opened = open_sealed(Path(row.path))
    if opened.manifest_sha256 != row.manifest_sha256:
        raise VersionRefusedError(opened.path, "its manifest is not the one that was registered")
    return opened


def _version_row(row: dict[str, Any]) -> VersionRow:
    return VersionRow(**row | {"path": Path(row["path"]), "serving": bool(row["serving"])})


@contextmanager
def _writing(db: Engine, connection: Connection | None) -> Iterator[Connection]:
    if connection is not None:
        yield connection
        return
    with db.begin() as own:
        yield own


def _switch(
    connection: Connection, model: str, version: str, expected: str | None, *, reason: str, actor: str
) -> bool:
    if expected is None:
        first = upsert(deployments, connection.dialect.name).values(
            model=model, champion=version, previous=None, revision=1, changed_at=NOW
        )
        changed = connection.execute(first.on_conflict_do_nothing().returning(deployments.c.model)).first()
    else:
        changed = connection.execute(
            update(deployments)
            .where(deployments.c.model == model, deployments.c.champion == expected)
            .values(champion=version, previous=expected, revision=deployments.c.revision + 1, changed_at=NOW)
            .returning(deployments.c.model)
        ).first()
    if changed is None:
        return False
    end_trial(connection, model)
    if expected is not None:
        _set_state(connection, model, expected, "retired")
    _set_state(connection, model, version, "champion")
    connection.execute(
        insert(deployment_events).values(
            model=model, version=version, replaced=expected, reason=reason, actor=actor, at=NOW
        )
    )
    return True


def _champion(connection: Connection, model: str) -> str | None:
    return connection.scalar(select(deployments.c.champion).where(deployments.c.model == model))


def _state(connection: Connection, model: str, version: str) -> VersionState:
    query = select(versions.c.state).where(versions.c.model == model, versions.c.version == version)
    state = connection.scalar(query)
    if state is None:
        raise UnknownVersionError(model, version)
    return cast(VersionState, state)


def _set_state(connection: Connection, model: str, version: str, state: VersionState) -> None:
    connection.execute(
        update(versions).where(versions.c.model == model, versions.c.version == version).values(state=state)
    )
