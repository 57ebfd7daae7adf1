"""One URL, two databases: SQLite (WAL, one writer at a time) and PostgreSQL, spoken to in the same words.

`with db.begin() as connection` is for writing, `with db.connect() as connection` for reading. On SQLite the
first takes the write lock at once (BEGIN IMMEDIATE, waiting up to 5 s), because a transaction that reads
first and writes later fails when another process wrote in between; the second is a snapshot, blocking nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from exporter.errors import DatabaseNotReadyError, DatabaseUnreachableError, DatabaseUrlError
from exporter.tables import metadata

BUSY_MS = 5000
_WRITES = "trueup_writes"


class Now(FunctionElement[float]):
    """The database's clock, seconds since 1970 UTC; usable inside statements."""

    type = Double()
    inherit_cache = True


@compiles(Now, "sqlite")
def _now_sqlite(element: Now, compiler: Any, **options: Any) -> str:  # noqa: ARG001 (SQLAlchemy names them)
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_postgresql(element: Now, compiler: Any, **options: Any) -> str:  # noqa: ARG001
    return "extract(epoch from clock_timestamp())::double precision"


NOW = Now()


class unindexed(FunctionElement[Any]):  # noqa: N801  # used as a function
    """A column by which SQLite shall not look rows up: without statistics it takes any equality for rare."""

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(unindexed)
def _as_it_is(element: unindexed, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(unindexed, "sqlite")
def _with_plus(element: unindexed, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"  # sqlite.org/optoverview.html, section 2


class _Database(Engine):
    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self.connect() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection


def open_database(url: str) -> Engine:
    """Engine for `url`; "sqlite:///FILE" (its folder is created) or "postgresql://…".

    Raises DatabaseUnreachableError at once where nothing answers.
    """
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except ArgumentError as error:
        raise DatabaseUrlError(error) from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    made = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    db = _Database(made.pool, made.dialect, made.url)
    if db.dialect.name == "sqlite":
        event.listen(db, "connect", _prepare_sqlite)
        event.listen(db, "begin", _begin_sqlite)
    try:
        with db.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError as error:
        db.dispose()
        raise DatabaseUnreachableError(parsed.render_as_string(hide_password=True), error) from error
    return db


def sqlite_url(home: Path) -> str:
    """URL of the default database of a home folder.

    >>> sqlite_url(Path("/srv/trueup"))
    'sqlite:////srv/trueup/trueup.db'
    """
    return f"sqlite:///{home.absolute() / 'trueup.db'}"


def require_tables(db: Engine) -> None:
    """Raise DatabaseNotReadyError unless the exporter's tables exist."""
    missing = [name for name in metadata.tables if name not in set(inspect(db).get_table_names())]
    if missing:
        raise DatabaseNotReadyError(db.url.render_as_string(hide_password=True), missing)


def clock(connection: Connection) -> float:
    """Seconds since 1970 UTC by the database's clock."""
    return float(connection.execute(select(NOW)).scalar_one())


def upsert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    """INSERT with `on_conflict_do_nothing` / `on_conflict_do_update`, for `db.dialect.name`."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def lock_order(connection: Connection, key: int) -> None:
    """On PostgreSQL, commit after all who took `key` before: serial numbers then become visible in order.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})


def _prepare_sqlite(dbapi_connection: Any, record: Any) -> None:  # noqa: ARG001 (SQLAlchemy names both)
    dbapi_connection.isolation_level = None  # sqlite3 must not start transactions by itself
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        dbapi_connection.execute(f"pragma {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
