"""`train --check-data`, `--report`, `--explain`, and rows that the service recorded itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, insert, text

from exporter.database import open_database, sqlite_url
from exporter.prediction import columns
from exporter.tables import labels, predictions
from monitor.commands import Context
from monitor.commands.data import check_data, explain_spec
from monitor.config import Settings
from monitor.migrate import upgrade
from monitor.recorded import recent_texts, recorded_rows
from tests.exporter.rows import prediction
from tests.monitor import tiny
from trainer.errors import DataError
from trainer.query import query_rows
from trainer.settings import TrainerSettings
from trainer.spec import DataTable, parse_spec
from trainer.split import prepare

AT = 1.7e9


@pytest.fixture
def db(tmp_path: Path) -> Engine:
    """Forty labelled predictions of "router", one text asked twice, one hashed, one without a label."""
    db = open_database(sqlite_url(tmp_path))
    upgrade(db)
    texts = [f"text number {n}" for n in range(40)] + ["text number 0", "sha256:00", "not labelled"]
    rows = [prediction(n, text=text, at=AT + n) for n, text in enumerate(texts)]
    told = [
        {"prediction_id": row.id, "label": "card" if n % 2 else "loan", "source": "t", "at": AT}
        for n, row in enumerate(rows[:-1])
    ]
    told[40]["label"] = "card"
    with db.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in rows])
        connection.execute(insert(labels), told)
    return db


def test_recorded_predictions_with_labels_are_rows(db: Engine) -> None:
    rows = recorded_rows(db, DataTable(recorded="router"))
    assert rows is not None
    assert len(rows) == 40
    assert (rows[-1].text, rows[-1].label, rows[-1].origin) == ("text number 0", "card", "traffic")
    since = recorded_rows(db, DataTable(recorded="router", since=datetime.fromtimestamp(AT + 30, UTC)))
    assert since is not None
    assert [row.text for row in since] == [*(f"text number {n}" for n in range(30, 40)), "text number 0"]
    assert recorded_rows(db, DataTable(train=Path("a.csv"))) is None
    assert len(recent_texts(db, "router")) == 41
    db.dispose()


def test_recorded_rows_are_split_like_others_and_refused_where_their_task_is_another(db: Engine) -> None:
    given = recorded_rows(db, DataTable(recorded="router"))
    rows, held = prepare(parse_spec({"model": {"name": "m"}, "data": {"recorded": "router"}}), recorded=given)
    assert len(rows) + len(held) == 40
    sets = parse_spec({"model": {"name": "m", "task": "multi-label"}, "data": {"recorded": "router"}})
    with pytest.raises(DataError, match="not one of the task"):
        prepare(sets, recorded=given)
    with pytest.raises(DataError, match="none has a label and its text"):
        recorded_rows(db, DataTable(recorded="nobody"))
    db.dispose()


def test_the_check_finds_faults_and_evidently_describes_the_data(tmp_path: Path) -> None:
    import numpy as np

    base = tiny.build_base(tmp_path / "base")
    mail = tiny.mail(np.random.default_rng(0), 120)
    lines = [{"text": text, "label": desk} for text, desk in [*mail, (mail[0][0], "sport"), mail[1]]]
    lines += [{"text": f"write to ann{n}@example.org", "label": "<b>money</b>"} for n in range(12)]
    data = tmp_path / "mail.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    spec = tmp_path / "mail.toml"
    spec.write_text(
        f'[model]\nname = "desks"\nbase = "{base}"\nmax_tokens = 16\n[data]\ntrain = "mail.jsonl"\n'
        "[fit]\nthreads = 1\n[gate]\nparity_max_abs = 0.01\n",
        encoding="utf-8",
    )
    settings = Settings(home=tmp_path / "home", trainer=TrainerSettings(cache=tmp_path / "cache"))
    context = Context(settings, None)
    outcome = check_data(context, spec=spec, report=tmp_path / "out.html", quiet=True)
    kinds = {one["kind"] for one in outcome.data["findings"]}
    assert {"exact_duplicates", "personal_data"} <= kinds
    assert outcome.status == 1
    assert outcome.data["reports"] == [str(tmp_path / "out.html")]
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert len(page) > 100_000
    assert "ann3@example.org" not in page
    assert not settings.home.exists()
    told = {one["key"]: one for one in explain_spec(context, spec=spec).data["settings"]}
    assert told["fit.threads"]["origin"] == f"{spec}, line 8"


def test_postgresql_is_asked_read_only_and_streamed(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table mail as select 'mail ' || n as text, mod(n, 2) || 'x' as label "
            "from generate_series(1, 3000) as n"
        )
        connection.exec_driver_sql(
            "create function spoil() returns text language sql as "
            "$$ insert into mail values ('x', 'y') returning text $$"
        )
    found = query_rows(
        postgresql_url, "select text, label from mail where label like '%!%' escape '#' or true"
    )
    assert sum(1 for _ in found) == 3000
    for sql in ("select spoil() as text", "delete from mail returning text"):
        with pytest.raises(DataError, match=r"read-only|syntax error"):
            list(query_rows(postgresql_url, sql))
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from mail")) == 3000
    engine.dispose()
