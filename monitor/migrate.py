"""Bring a database to the schema of this release, or say which it has.

An upgrade is one transaction, also on SQLite: a process killed in the middle leaves the schema as it was.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from exporter.database import lock_order
from monitor.errors import MonitorError

_LOCK = 0x74727565  # "true": one upgrade at a time


class NewerDatabaseError(MonitorError):
    """The database was written by a later release."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision!r}, unknown to this release; install the newer trueup."
        )


def upgrade(db: Engine) -> str:
    """Upgrade to the newest revision and return it; safe to repeat and from several processes at once."""
    with db.begin() as connection:
        lock_order(connection, _LOCK)
        found = _current(connection)
        if found == head():
            return found
        if found is not None and found not in {script.revision for script in _scripts().walk_revisions()}:
            raise NewerDatabaseError(found)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return head()


def current(db: Engine) -> str | None:
    """The database's revision, None when it has no tables of ours."""
    with db.connect() as connection:
        return _current(connection)


@cache
def head() -> str:
    """The newest revision of this release."""
    newest = _scripts().get_current_head()
    assert newest is not None
    return newest


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
