"""Leadership as a row that expires: one holder at a time, numbered by epochs, on the database's clock."""

from __future__ import annotations

import os
import secrets
import socket

from sqlalchemy import Connection, Engine, Exists, case, exists, or_, select, update

from exporter.database import NOW, upsert
from monitor.tables import leases

LEADER = "scheduler"


def new_holder() -> str:
    """Name of this process, never used before, so that a restart is a new reign."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def acquire(db: Engine, name: str, holder: str, *, lease_s: float) -> int | None:
    """Renew the lease or take over an expired one; returns the epoch, or None while another holder leads."""
    with db.begin() as connection:
        epoch = _renew(connection, name, holder, lease_s)
        if epoch is None and _create(connection, name):
            epoch = _renew(connection, name, holder, lease_s)
    return epoch


def release(db: Engine, name: str, holder: str) -> None:
    """Let the next holder in at once; nothing happens where `holder` does not lead."""
    with db.begin() as connection:
        connection.execute(
            update(leases).where(leases.c.name == name, leases.c.holder == holder).values(expires_at=0.0)
        )


def leads(name: str, holder: str, epoch: int) -> Exists:
    """SQL condition that fences a leader's write: true only while this very reign lasts."""
    return exists(
        select(leases.c.name).where(
            leases.c.name == name,
            leases.c.holder == holder,
            leases.c.epoch == epoch,
            leases.c.expires_at > NOW,
        )
    )


def _renew(connection: Connection, name: str, holder: str, lease_s: float) -> int | None:
    mine = leases.c.holder == holder
    statement = (
        update(leases)
        .where(leases.c.name == name, or_(mine, leases.c.expires_at < NOW))
        .values(
            holder=holder,
            epoch=leases.c.epoch + case((mine, 0), else_=1),
            expires_at=NOW + lease_s,
        )
        .returning(leases.c.epoch)
    )
    return connection.execute(statement).scalar()


def _create(connection: Connection, name: str) -> bool:
    statement = upsert(leases, connection.dialect.name).values(name=name, holder="", epoch=0, expires_at=0.0)
    created = statement.on_conflict_do_nothing().returning(leases.c.name)
    return connection.execute(created).first() is not None
