"""Rows of an SQL query: asked in a read-only transaction, streamed, its password never told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.arrow_rows import Numbered
from trainer.cells import columns_once
from trainer.errors import DataError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SOURCE = "[data] sql"
ROWS = 1000  # of one fetch
_MEND = "Correct [data] sql and database_url in the spec."


def query_rows(url: str, sql: str) -> Numbered:
    """(row, record) of a SELECT; DataError says what the database said, without its password."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  most trainings read files

    try:
        with _reading(url) as connection:
            found = connection.execution_options(
                stream_results=True,
                max_row_buffer=ROWS,
                no_parameters=True,  # a percent sign is a percent sign
            ).exec_driver_sql(sql)
            if not found.returns_rows:
                raise DataError(SOURCE, None, "it returns no rows", "Write one SELECT.")
            columns = list(found.keys())
            columns_once(SOURCE, None, columns)
            for number, row in enumerate(found, 1):
                yield number, dict(zip(columns, row, strict=True))
    except SQLAlchemyError as error:
        raise DataError(SOURCE, None, _told(error, url), _MEND) from None  # the cause holds the URL


def hidden(url: str) -> str:
    """A database URL without its password, for people, manifests and logs.

    >>> hidden("postgresql+psycopg://ann:s3cr@t@db:5432/mail?sslmode=require")
    'postgresql+psycopg://ann:***@db:5432/mail?sslmode=require'
    >>> hidden("postgresql://db/mail?user=ann&password=s3cret"), hidden("sqlite:///mail.db")
    ('postgresql://db/mail?user=ann&password=***', 'sqlite:///mail.db')
    """
    begin = "://" if "://" in url else "^"
    bare = re.sub(rf"({begin}[^:/@?]*):.*@", r"\1:***@", url)
    return re.sub(r"(password=)[^&]*", r"\1***", bare)


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    """A connection that cannot write, whatever the query says."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            else:
                connection.exec_driver_sql("PRAGMA query_only = ON")
            yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine, make_url  # noqa: PLC0415  as above
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    try:
        made = make_url(url)
        kind = made.get_backend_name()
        if kind not in {"postgresql", "sqlite"}:
            problem = f"a {kind} database cannot be asked read-only here"
            raise DataError(SOURCE, None, problem, "Use PostgreSQL or SQLite, or export to .parquet.")
        if kind == "sqlite" and not (made.database and Path(made.database).is_file()):
            problem = f"there is no database {made.database!r}"
            raise DataError(SOURCE, None, problem, "Correct [data] database_url in the spec.")
        return create_engine(made, poolclass=NullPool)
    except (ArgumentError, NoSuchModuleError, ImportError):
        mend = 'Write "postgresql+psycopg://user:password@host/name" or "sqlite:////path/to/file.db".'
        raise DataError(
            SOURCE, None, f"{hidden(url)!r} is not a database URL that works here", mend
        ) from None


def _told(error: Any, url: str) -> str:
    """What the driver said, in one line."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or ["it failed"]
    from sqlalchemy import make_url  # noqa: PLC0415  as above

    password = make_url(url).password
    said = lines[0].rstrip(".")
    return said.replace(str(password), "***") if password else said
