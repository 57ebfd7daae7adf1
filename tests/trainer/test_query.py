"""Rows of a database: read-only, and without its password in any message."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from trainer.errors import DataError, SpecError
from trainer.query import query_rows
from trainer.spec import load_spec, parse_spec
from trainer.split import prepare

SPEC = """
[model]
name = "router"
[data]
sql = "select body, desk from mail where body like '%a%' order by id"
database_url = "sqlite:///{path}"
text = "body"
label = "desk"
"""


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "mail.db"
    with sqlite3.connect(path) as db:
        db.execute("create table mail (id integer primary key, body text, desk text)")
        rows = [(f"mail {n}", "card" if n % 2 else "loan") for n in range(20)]
        db.executemany("insert into mail (body, desk) values (?, ?)", [*rows, ("no", "card")])
    db.close()
    return path


def test_a_query_is_the_rows(mail: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC.format(path=mail), encoding="utf-8")
    rows, held = prepare(load_spec(tmp_path / "spec.toml"))
    assert len(rows) + len(held) == 20
    assert {row.label for row in rows} == {"card", "loan"}


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("delete from mail returning body, desk", "readonly"),
        ("drop table mail", "readonly"),
        ("select nobody from mail", "no such column"),
        ("select body, body from mail", "'body' is there twice"),
    ],
)
def test_what_writes_or_fails_is_refused_in_one_line(sql: str, problem: str, mail: Path) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        list(query_rows(f"sqlite:///{mail}", sql))
    assert "[data] sql" in str(caught.value)
    with sqlite3.connect(mail) as db:
        assert db.execute("select count(*) from mail").fetchone() == (21,)
    db.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql+psycopg://ann:s3cret@127.0.0.1:1/mail?connect_timeout=2", "refused"),
        ("mysql://ann:s3cret@host/mail", "read-only"),
        ("ann:s3cret@host", "not a database URL"),
        ("sqlite:///nowhere/s3cret.db", "there is no database"),
        ("sqlite://", "there is no database"),
    ],
)
def test_a_url_that_does_not_work_is_told_without_its_password(url: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        list(query_rows(url, "select 1"))
    if "@" in url:
        assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_spec_that_leaves_the_process_has_no_password() -> None:
    url = "postgresql+psycopg://ann:s3cret@db/mail"
    spec = parse_spec({"model": {"name": "m"}, "data": {"sql": "select 1", "database_url": url}})
    assert spec.model_dump(mode="json")["data"]["database_url"] == "postgresql+psycopg://ann:***@db/mail"
    assert "s3cret" not in repr(spec)
    assert parse_spec(spec.model_dump(mode="json")).data.sql == "select 1"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "not none"),
        ({"train": "a.csv", "recorded": "router"}, "not train and recorded"),
        ({"sql": "select 1"}, "go together"),
        ({"train": "a.csv", "since": "2026-01-01"}, "since goes with recorded"),
    ],
)
def test_rows_come_from_one_place(data: dict[str, str], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        parse_spec({"model": {"name": "m"}, "data": data})


def test_recorded_rows_need_whoever_has_the_database() -> None:
    spec = parse_spec({"model": {"name": "m"}, "data": {"recorded": "router"}})
    with pytest.raises(DataError, match="the predictions of 'router': they are in a database"):
        prepare(spec)
