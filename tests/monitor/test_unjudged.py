"""Generated answers of which nobody can say whether they were right count for nothing, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from exporter.generating.reference import reference_rows
from exporter.generation import FinishReason, insert_generations
from exporter.tables import deployments, labels, versions
from monitor.explain.rows import sample_rows
from monitor.label_counts import count_labels
from monitor.quality.reading import read_rows
from monitor.quality.requests import next_labels
from monitor.tallies import read_answers
from monitor.windows import read_labelled
from tests.monitor.generations import generation
from tests.monitor.test_compare import NEW, record
from trainer.decoder.sealed import ANSWERS
from trainer.generation.answers import Said, write_answers
from trainer.rows import HoldoutRow, write_holdout

ANSWERED: tuple[tuple[str | None, FinishReason], ...] = (
    (" right\n", "stop"), ("wrong", "length"), (None, "stop"), ("sha256:0f", "stop"),
    ("right", "cancelled"), ("wrong", "error"),
)  # fmt: skip
IDS = tuple(f"p{number}" for number in range(len(ANSWERED)))


@pytest.fixture
def writer(db: Engine) -> Engine:
    """The language model "router" was asked six times; two of its answers can be right or wrong."""
    record(db, IDS, [replace(NEW[0], text=f"prompt {id_}") for id_ in IDS])
    with db.begin() as connection:
        connection.execute(
            insert(versions).values(
                model="router", version="v1", number=1, state="champion", path="", manifest_sha256="",
                manifest={"task": "text-generation", "labels": []}, created_at=1.6e9,
            )
        )  # fmt: skip
        connection.execute(
            insert(deployments).values(model="router", champion="v1", revision=1, changed_at=1.6e9)
        )
        made = [replace(generation(end), answer=answer) for answer, end in ANSWERED]
        insert_generations(connection, list(zip(IDS, made, strict=True)))
    return db


def label_all(db: Engine) -> None:
    row = {"label": "right ", "at": 1.7e9, "source": "test"}
    with db.begin() as connection:
        connection.execute(insert(labels), [row | {"prediction_id": id_} for id_ in IDS])


def test_what_was_not_kept_whole_is_no_wrong_answer(writer: Engine) -> None:
    label_all(writer)
    with writer.connect() as connection:
        answered = read_answers(connection, "router", "v1", after_label_seq=0)
        counted = count_labels(connection, "router", "v1")
    assert (answered.rows, answered.accuracy) == (2, 0.5)
    assert (counted.rows, counted.right, counted.readable) == (2, 1, 6)
    assert read_labelled(writer, "router", "v1", after_label_seq=0).correct.tolist()[:2] == [1.0, 0.0]
    assert read_labelled(writer, "router", "v1", after_label_seq=0).labelled == 2
    found = read_rows(writer, "router", "v1", since_seq=0, until_seq=None)
    assert found.ids == IDS[:2]
    assert found.labelled(found.told()).correct.tolist() == [1.0, 0.0]


def test_an_explanation_holds_answers_against_labels_and_not_the_reason_of_their_end(writer: Engine) -> None:
    label_all(writer)
    with writer.connect() as connection:
        rows = sample_rows(connection, "router", "v1", since_seq=0, until_seq=99, limit=99, seed=0)
    assert rows.label == ("right", "wrong", "", "", "", "")
    assert rows.correct[:2].tolist() == [1.0, 0.0]
    assert all(truth is None for truth in rows.truth[2:])


def test_who_is_to_label_sees_the_answer_and_never_one_that_nobody_can_judge(writer: Engine) -> None:
    asked = next_labels(writer, "router", "v1", 6, 0, now=1.7e9)
    assert {one.id: one.predicted for one in asked} == {"p0": "right", "p1": "wrong"}


def test_white_space_makes_no_sealed_answer_wrong(tmp_path: Path) -> None:
    holdout = [HoldoutRow(text="a", label="home\n"), HoldoutRow(text="b", label=None)]
    write_holdout(holdout, tmp_path / "holdout.parquet")
    write_answers(holdout, holdout, [Said(" home"), Said("away ")], tmp_path / ANSWERS)
    files = {ANSWERS: (tmp_path / ANSWERS).read_bytes()}
    sealed: Any = SimpleNamespace(path=tmp_path, files=files, manifest=SimpleNamespace(model="writer"))
    rows = reference_rows(sealed, "v1")
    assert [(row["label"], row["truth"]) for row in rows] == [("home", "home"), ("away", None)]
