from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from exporter.database import open_database, sqlite_url
from monitor import episodes, notices
from monitor.migrate import NewerDatabaseError, _config, current, head, upgrade
from monitor.tables import jobs
from tests.exporter.conftest import _new_postgresql

metadata = jobs.metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Two empty databases of a kind."""
    if request.param == "sqlite":
        made = [open_database(sqlite_url(tmp_path / name)) for name in ("a", "b")]
    else:
        url = request.getfixturevalue("postgresql_url")
        made = [_new_postgresql(url) for _ in range(2)]
    yield made[0], made[1]
    for db in made:
        db.dispose()


def indexes(db: Engine) -> set[str]:
    """Index definitions as the database keeps them, with their conditions."""
    query = (
        "select sql from sqlite_master where type = 'index' and sql is not null"
        if db.dialect.name == "sqlite"
        else "select indexdef from pg_indexes where schemaname = 'public'"
    )
    with db.connect() as connection:
        found = connection.execute(text(query)).scalars()
        return {re.sub(r"\s+", " ", sql.lower()) for sql in found if "alembic_version" not in sql}


def columns(db: Engine) -> dict[str, list[tuple[str, str, bool]]]:
    return {
        table: [(one["name"], str(one["type"]), one["nullable"]) for one in inspect(db).get_columns(table)]
        for table in metadata.tables
    }


def test_an_upgrade_of_an_empty_database_gives_the_tables_of_the_metadata(two: tuple[Engine, Engine]) -> None:
    migrated, created = two
    upgrade(migrated)
    metadata.create_all(created)
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert indexes(migrated) == indexes(created)
    assert any("where" in index for index in indexes(migrated))
    assert columns(migrated) == columns(created)


def test_an_upgrade_can_be_repeated_and_the_revision_is_known(two: tuple[Engine, Engine]) -> None:
    db, _ = two
    assert current(db) is None
    assert upgrade(db) == upgrade(db) == current(db) == head()


def test_a_database_of_a_later_release_is_refused(two: tuple[Engine, Engine]) -> None:
    db, _ = two
    upgrade(db)
    with db.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(NewerDatabaseError, match="9999"):
        upgrade(db)


KILLED = """
import os, signal, sys
from sqlalchemy import event
from exporter.database import open_database
from monitor.migrate import upgrade
db = open_database(sys.argv[1])
left = [int(sys.argv[2])]
@event.listens_for(db, "after_cursor_execute")
def count(connection, cursor, statement, *_):
    if statement.lstrip().upper().startswith(("CREATE", "INSERT", "UPDATE")):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
upgrade(db)
"""


@pytest.mark.parametrize("statements", [1, 9, 20])
def test_a_kill_in_the_middle_of_an_upgrade_leaves_the_database_as_it_was(
    two: tuple[Engine, Engine], statements: int
) -> None:
    db, _ = two
    url = db.url.render_as_string(hide_password=False)
    child = subprocess.run([sys.executable, "-c", KILLED, url, str(statements)], check=False)
    assert child.returncode == -signal.SIGKILL
    assert [name for name in inspect(db).get_table_names() if name in metadata.tables] == []
    assert upgrade(db) == head()


def test_what_people_were_told_before_the_outbox_is_not_told_again(two: tuple[Engine, Engine]) -> None:
    db, _ = two
    _to(db, "0007")
    row = "insert into episodes (model, version, cause, state, opened_at, fired_at, detail) values "
    with db.begin() as connection:
        for cause, detail in (("drift", '{"told": "firing", "onset_seq": 7}'), ("class_mix", "{}")):
            given = {"cause": cause, "detail": detail}
            connection.execute(text(row + "('router', 'v1', :cause, 'firing', 1, 2, :detail)"), given)
    upgrade(db)
    with db.connect() as connection:
        told = notices.newest(connection)["router"]
        kept = [one.detail for one in episodes.list_open(connection)]
    assert (told.kind, told.causes, told.created_at) == ("firing", ["drift"], 2.0)
    assert told.routed_at is not None
    assert kept == [{"onset_seq": 7}, {}]


def _to(db: Engine, revision: str) -> None:
    with db.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
