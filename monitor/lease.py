"""Leadership as a row that expires: one holder at a time, numbered by epochs, on the database's clock."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from exporter.database import NOW, upsert
from monitor.errors import MonitorError
from monitor.tables import leases

LEADER = "scheduler"
_FROZEN_S = 2.0  # a process silent for so long within a transaction loses it; less than a leader's lease
_UNDONE = "25P03"  # PostgreSQL's idle_in_transaction_session_timeout
_TRIES = 3
Done = TypeVar("Done")
_LONGEST = 10.0  # a leader's lease that ends later than after ten was written before the clock was set back
_LONGEST_WORK_S = 3600.0  # the same for work; longer, because monitors may differ in their settings


def new_holder() -> str:
    """Name of this process, never used before, so that a restart is a new reign."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def acquire(db: Engine, name: str, holder: str, *, lease_s: float) -> int | None:
    """Renew the lease or take over an expired one; returns the epoch, or None while another holder leads."""
    if _another_leads(db, name, holder, lease_s):
        return None
    with brief(db) as connection:
        epoch = _renew(connection, name, holder, lease_s)
        if epoch is None and _create(connection, name):
            epoch = _renew(connection, name, holder, lease_s)
    return epoch


def release(db: Engine, name: str, holder: str) -> None:
    """Let the next holder in at once; nothing happens where `holder` does not lead."""
    with brief(db) as connection:
        connection.execute(
            update(leases).where(leases.c.name == name, leases.c.holder == holder).values(expires_at=0.0)
        )


def holds(connection: Connection, name: str, holder: str, epoch: int) -> bool:
    """Whether this very reign lasts."""
    return connection.execute(_reign(name, holder, epoch)).first() is not None


def hold(connection: Connection, name: str, holder: str, epoch: int) -> bool:
    """Fence a leader's write: whether this very reign lasts, and then it outlasts the transaction.

    Without the row lock, what was inserted in time could become visible after the next reign has begun.
    """
    locked = _reign(name, holder, epoch).with_for_update(read=True)
    return connection.execute(locked).first() is not None


def work_expired(until: ColumnElement[float], lease_s: float) -> ColumnElement[bool]:
    """SQL condition: the lease on a job or slot has ended."""
    return _expired(until, max(_LONGEST_WORK_S, _LONGEST * lease_s))


@contextmanager
def brief(db: Engine) -> Iterator[Connection]:
    """A transaction for writing that does not outlive its process's silence.

    PostgreSQL keeps the locks of a client that was stopped in mid-transaction; here it undoes the
    transaction after two seconds. SQLite's lock is the process's own: others wait until it wakes or dies.
    """
    with db.begin() as connection:
        if connection.dialect.name == "postgresql":
            limit = f"{_FROZEN_S * 1000:.0f}"
            connection.execute(select(func.set_config("idle_in_transaction_session_timeout", limit, True)))
        yield connection


def again(act: Callable[[], Done]) -> Done:
    """Call `act`, one brief transaction; up to twice more where it was undone as the process stood still.

    A machine that swaps stands still like a stopped process, and what was undone has changed nothing.
    """
    for _ in range(_TRIES - 1):
        try:
            return act()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _UNDONE:
                raise
    return act()


@contextmanager
def kept(beat: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """Call `beat` every `every_s` seconds, in a thread, while the body runs.

    A MonitorError of `beat` (the lease is lost, the work is cancelled) ends the calls and is raised after the
    body; a database that does not answer is asked again.
    """
    stop, raised = Event(), list[MonitorError]()

    def run() -> None:
        while not stop.wait(every_s):
            try:
                beat()
            except SQLAlchemyError:
                continue  # if the lease ends meanwhile, the next beat or the fenced write finds out
            except MonitorError as error:
                raised.append(error)
                return

    thread = Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]


def _expired(until: ColumnElement[float], longest_s: float) -> ColumnElement[bool]:
    """It has ended, or lies so far ahead that the clock was set back since."""
    return or_(until < NOW, until > NOW + longest_s)


def _another_leads(db: Engine, name: str, holder: str, lease_s: float) -> bool:
    """Looked up without the write lock: all but one process ask in vain, all the time."""
    led = select(leases.c.name).where(
        leases.c.name == name, leases.c.holder != holder, ~_expired(leases.c.expires_at, _LONGEST * lease_s)
    )
    with db.connect() as connection:
        return connection.execute(led).first() is not None


def _reign(name: str, holder: str, epoch: int) -> Select[int]:
    return select(leases.c.epoch).where(
        leases.c.name == name,
        leases.c.holder == holder,
        leases.c.epoch == epoch,
        leases.c.expires_at > NOW,
    )


def _renew(connection: Connection, name: str, holder: str, lease_s: float) -> int | None:
    mine = leases.c.holder == holder
    statement = (
        update(leases)
        .where(leases.c.name == name, or_(mine, _expired(leases.c.expires_at, _LONGEST * lease_s)))
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
