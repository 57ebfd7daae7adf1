"""The champion changed by a person: it, the episodes and the pager, in one transaction."""

from __future__ import annotations

from sqlalchemy import Engine, select

from exporter import registry
from exporter.database import clock, lock_order
from exporter.tables import deployments
from monitor.asking import DECISIONS
from monitor.causes import settle
from monitor.errors import ChampionChangedError


def promote(db: Engine, model: str, version: str, *, expected: str | None, reason: str, actor: str) -> None:
    """Make `version` the champion in place of `expected`.

    Raises ChampionChangedError, and the registry's errors.
    """
    with db.begin() as connection:
        lock_order(connection, DECISIONS)  # a check that is being written must not open episodes afterwards
        promoted = registry.promote(
            db, model, version, expected=expected, reason=reason, actor=actor, connection=connection
        )
        if not promoted:
            raise ChampionChangedError(model, version)
        settle(connection, model, reason=f"{version} was promoted: {reason}", now=clock(connection))


def roll_back(db: Engine, model: str, *, expected: str | None, reason: str, actor: str) -> str:
    """Make the champion before `expected` serve again and return it.

    Raises ChampionChangedError, NothingToRollBackError.
    """
    with db.begin() as connection:
        lock_order(connection, DECISIONS)  # a check that is being written must not open episodes afterwards
        serves = connection.scalar(select(deployments.c.champion).where(deployments.c.model == model))
        if serves != expected:
            raise ChampionChangedError(model, "the version before")
        version = registry.rollback(db, model, reason=reason, actor=actor, connection=connection)
        settle(connection, model, reason=f"rolled back to {version}: {reason}", now=clock(connection))
    return version
