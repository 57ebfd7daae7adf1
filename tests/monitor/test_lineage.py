from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, insert

from exporter.database import open_database, sqlite_url
from exporter.tables import labels, predictions, reference, versions
from monitor.lineage import Score, loss, read_answered, read_lineage
from monitor.migrate import upgrade
from monitor.tables import episodes, jobs

T0 = 1.7e9


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Engine]:
    db = open_database(sqlite_url(tmp_path))
    upgrade(db)
    yield db
    db.dispose()


def version(connection: Connection, number: int, parent: str | None, *, right: int, wrong: int) -> None:
    name = f"v{number}"
    connection.execute(
        insert(versions).values(
            model="desks", version=name, number=number, parent=parent, state="retired", path="/", manifest={},
            manifest_sha256=name, created_at=T0,
        )
    )  # fmt: skip
    truths = ["a"] * right + ["b"] * wrong + [None]
    rows: list[dict[str, Any]] = [
        {"model": "desks", "version": name, "row": row, "in_reference": True, "truth": truth, "label": "a",
         "score": 1.0, "scores": [1.0], "tokens": 1, "characters": 1}
        for row, truth in enumerate(truths)
    ]  # fmt: skip
    connection.execute(insert(reference), rows)


def answers(connection: Connection, name: str, count: int, *, wrong: int = 0, at: float = T0) -> None:
    rows: list[dict[str, Any]] = [
        {"id": f"{name}-{at}-{row}", "model": "desks", "version": name, "role": "champion", "at": at,
         "label": "a", "score": 1.0, "scores": [1.0], "tokens": 1, "characters": 1, "truncated": False,
         "queue_ms": 0.0, "run_ms": 0.0, "metadata": {}, "embedding": b"", "similarity": 1.0,
         "text": str(row)}
        for row in range(count)
    ]  # fmt: skip
    connection.execute(insert(predictions), rows)
    told = [
        {"prediction_id": row["id"], "label": "b" if number < wrong else "a", "source": "test", "at": at}
        for number, row in enumerate(rows)
    ]
    connection.execute(insert(labels), told)


def job(connection: Connection, base: str, candidate: str | None, *, at: float, **more: Any) -> None:
    connection.execute(
        insert(jobs).values(
            model="desks", trigger="page", dedupe_key=f"{base}{at}", state="done", attempt=1, max_attempts=3,
            not_before=at, cancel_requested=False, base_version=base, candidate=candidate, progress={},
            created_at=at, updated_at=at, finished_at=at, **more,
        )
    )  # fmt: skip


def test_a_line_is_followed_to_its_first_version_and_its_labels_are_counted(db: Engine) -> None:
    with db.begin() as connection:
        version(connection, 1, None, right=90, wrong=10)
        version(connection, 2, "v1", right=70, wrong=30)
        answers(connection, "v1", 300, wrong=60)
        job(connection, "v1", "v2", at=T0 + 10)
        answers(connection, "v1", 50, at=T0 + 20)  # labels that came after the job: not learnt from
        answers(connection, "v2", 40, wrong=10, at=T0 + 30)
        found = read_lineage(connection, "desks", "v2")
        assert (found.first, found.labels_learnt, found.labels_refused) == (
            Score(right=90, rows=100),
            300,
            None,
        )
        assert read_answered(connection, "desks", "v2") == Score(right=30, rows=40)


def test_labels_count_from_the_onset_of_the_drift_that_the_job_answered(db: Engine) -> None:
    with db.begin() as connection:
        version(connection, 1, None, right=90, wrong=10)
        version(connection, 2, "v1", right=90, wrong=10)
        answers(connection, "v1", 300)
        row = {"model": "desks", "version": "v1", "cause": "drift", "state": "resolved", "opened_at": T0}
        connection.execute(insert(episodes).values(id=7, detail={"onset_seq": 201}, **row))
        job(connection, "v1", "v2", at=T0 + 10, episode_id=7)
        assert read_lineage(connection, "desks", "v2").labels_learnt == 100


def test_the_labels_of_a_refused_challenger_are_told_until_another_is_promoted(db: Engine) -> None:
    with db.begin() as connection:
        version(connection, 1, None, right=90, wrong=10)
        version(connection, 2, "v1", right=90, wrong=10)
        answers(connection, "v1", 200)
        job(connection, "v1", "v2", at=T0 + 10)
        assert read_lineage(connection, "desks", "v1").labels_refused == 200
        assert read_lineage(connection, "desks", "v2").labels_refused is None


def test_a_champion_as_good_as_the_first_is_accused_less_often_than_promised() -> None:
    rng = np.random.default_rng(0)
    accused = 0
    for _ in range(300):
        first = Score(right=int(rng.binomial(300, 0.93)), rows=300)
        right = np.cumsum(rng.random(2000) < 0.93)
        told = [loss(first, Score(right=int(right[n - 1]), rows=n)) for n in range(100, 2001, 100)]
        accused += max(told) >= math.log(20)
    assert accused <= 0.05 * 300


@pytest.mark.parametrize("now", [Score(right=0, rows=0), Score(right=0, rows=19)])
def test_few_rows_are_no_evidence(now: Score) -> None:
    assert loss(Score(right=95, rows=100), now) == 0.0
    assert loss(now, Score(right=5, rows=100)) == 0.0


def test_a_first_version_that_was_always_wrong_cannot_be_lost_from() -> None:
    assert loss(Score(right=0, rows=100), Score(right=0, rows=100)) <= 0.0
