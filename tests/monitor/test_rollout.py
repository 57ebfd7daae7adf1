"""From a good verdict over shadow and canary to the champion, or back: real rows, the real test, no HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, insert, select, update

from exporter import registry
from exporter.database import clock
from exporter.generation import insert_generations
from exporter.labels import record_labels
from exporter.prediction import Prediction, columns
from exporter.settings import Mode
from exporter.tables import predictions, trials, versions
from exporter.trials import on_trial, shadow_id, start_trial
from monitor import rollout
from monitor.settings import ModelSettings
from monitor.tables import jobs, verdicts
from monitor.verification import verify
from tests.monitor.generations import generation

MODEL = "router"
LABELS = ["no", "yes"]
Answers = Callable[[str, bool], str]


@pytest.fixture
def tried(db: Engine) -> Engine:
    """v1 serves, v2 is a candidate made by job 1."""
    with db.begin() as connection:
        at = clock(connection)
        for number in (1, 2):
            connection.execute(
                insert(versions).values(
                    model=MODEL,
                    version=f"v{number}",
                    number=number,
                    parent=None,
                    state="candidate",
                    path=f"/nowhere/v{number}",
                    manifest_sha256="0" * 64,
                    manifest={"labels": LABELS},
                    created_at=at,
                )
            )
        connection.execute(
            insert(jobs).values(
                model=MODEL,
                trigger="page",
                dedupe_key="one",
                state="done",
                attempt=1,
                max_attempts=3,
                not_before=at,
                cancel_requested=False,
                candidate="v2",
                progress={},
                created_at=at,
                updated_at=at,
            )
        )
    assert registry.promote(db, MODEL, "v1", expected=None, reason="first", actor="test")
    return db


def settings(*stages: Mode, **changes: object) -> ModelSettings:
    return ModelSettings.model_validate({"rollout": stages, "canary_share": 0.3} | changes)


def begin(db: Engine, mode: Mode) -> None:
    with db.begin() as connection:
        start_trial(connection, MODEL, "v2", champion="v1", mode=mode, share=0.3)


def traffic(db: Engine, rows: int, *, right: dict[str, float], seed: int = 0) -> None:
    """Answered and labelled texts: v1 with v2 in its shadow, or v2 for its share, as the trial is.

    `right`: by version, how often it is right.
    """
    rng = np.random.default_rng(seed)
    with db.connect() as connection:
        trial = connection.execute(trials.select()).mappings().one()
        at = clock(connection)
    made, truths = [], []
    for number in range(rows):
        truth = str(rng.choice(LABELS))
        id_ = f"{seed:02d}{number:030d}"
        truths.append((id_, truth))
        canary = trial["mode"] == "canary" and rng.random() < trial["share"]
        answering = [(id_, "v2", "canary")] if canary else [(id_, "v1", "champion")]
        if trial["mode"] == "shadow":
            answering.append((shadow_id(id_), "v2", "shadow"))
        for name, version, role in answering:
            said = truth if rng.random() < right[version] else LABELS[1 - LABELS.index(truth)]
            made.append(_prediction(name, version, role, at + 1, said))
    with db.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in made])
    assert {one.status for one in record_labels(db, truths, source="test", now=at)} == {"stored"}


def _prediction(id_: str, version: str, role: str, at: float, label: str) -> Prediction:
    return Prediction(
        id=id_,
        model=MODEL,
        version=version,
        role=role,  # type: ignore[arg-type]
        at=at,
        text="x",
        label=label,
        score=0.9,
        scores=(0.1, 0.9),
        embedding=b"",
        similarity=0.5,
        tokens=3,
        characters=1,
        truncated=False,
        queue_ms=0.0,
        run_ms=1.0,
        metadata={},
    )


def look(db: Engine, given: ModelSettings, *, later: float = 0.0) -> rollout.Look | None:
    with db.connect() as connection:
        now = clock(connection)
    return rollout.advance(db, MODEL, given, now=now + later)


def test_without_a_trial_there_is_nothing_to_look_at(tried: Engine) -> None:
    assert look(tried, settings()) is None


def test_a_better_challenger_goes_from_shadow_to_canary_to_champion(tried: Engine) -> None:
    stages = settings("shadow", "canary")
    begin(tried, "shadow")
    traffic(tried, 600, right={"v1": 0.7, "v2": 0.95})
    first = look(tried, stages)
    assert first is not None
    assert (first.ending, first.next_mode) == (None, "canary")
    assert registry.champion(tried, MODEL) == "v1"
    # What the shadow proved does not count for the canary: it begins with no rows of its own.
    with tried.begin() as connection:
        connection.execute(update(trials).values(started_at=clock(connection) + 2))
    again = look(tried, stages)
    assert again is not None
    assert (again.decision.action, again.decision.blocks) == ("go on", 0)
    with tried.begin() as connection:
        connection.execute(update(trials).values(started_at=clock(connection)))
    traffic(tried, 2500, right={"v1": 0.7, "v2": 0.95}, seed=1)
    last = look(tried, stages)
    assert last is not None
    assert last.ending == "promoted"
    assert registry.champion(tried, MODEL) == "v2"
    assert look(tried, stages) is None


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_challenger_that_is_less_often_right_is_rolled_back(mode: Mode, tried: Engine) -> None:
    begin(tried, mode)
    traffic(tried, 2500, right={"v1": 0.9, "v2": 0.6})
    found = look(tried, settings(mode))
    assert found is not None
    assert found.ending == "rolled back"
    assert registry.champion(tried, MODEL) == "v1"
    states = {row.version: row.state for row in registry.list_versions(tried, MODEL)}
    assert states == {"v1": "champion", "v2": "rejected"}
    with tried.connect() as connection:
        assert not on_trial(connection, MODEL)


def test_what_is_not_proven_goes_on_until_its_time_is_over(tried: Engine) -> None:
    begin(tried, "canary")
    traffic(tried, 60, right={"v1": 0.9, "v2": 0.9})
    given = settings("canary", trial="1d")
    soon = look(tried, given)
    assert soon is not None
    assert soon.ending is None
    late = look(tried, given, later=90_000.0)
    assert late is not None
    assert late.ending == "not proven in time"
    assert registry.champion(tried, MODEL) == "v1"


def test_each_ending_is_a_record_that_is_judged_again(tried: Engine) -> None:
    begin(tried, "shadow")
    traffic(tried, 2000, right={"v1": 0.9, "v2": 0.6})
    look(tried, settings("shadow"))
    about_seals = "/nowhere"  # these versions have no files
    assert [one for one in verify(tried, MODEL).problems if about_seals not in one] == []
    with tried.begin() as connection:
        (row,) = connection.execute(verdicts.select()).mappings()
        assert (row["record"]["outcome"], row["job"]) == ("rolled back", 1)
        forged = row["record"] | {"outcome": "promoted", "gains": [1.0] * 500}
        connection.execute(update(verdicts).values(record=forged))
    problems = " ".join(verify(tried, MODEL).problems)
    assert "was changed" in problems
    assert "its rows say 'promote'" in problems


@pytest.mark.parametrize("stages", [("canary", "shadow"), ("shadow", "shadow"), ("blue-green",)])
def test_stages_have_one_order(stages: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        ModelSettings.model_validate({"rollout": stages})


@pytest.mark.parametrize("stages", [("shadow",), ("shadow", "canary"), ("canary",)])
def test_a_language_model_is_tried_as_a_canary_for_nobody_answers_in_its_shadow(
    stages: tuple[Mode, ...], tried: Engine
) -> None:
    with tried.begin() as connection:
        written = {"task": "text-generation", "labels": []}
        connection.execute(update(versions).where(versions.c.version == "v2").values(manifest=written))
        rollout.begin(connection, MODEL, "v2", "v1", settings(*stages))
    found = rollout.find_trial(tried, MODEL)
    assert found is not None
    assert (found.mode, found.share) == ("canary", 0.3)
    traffic(tried, 400, right={"v1": 0.5, "v2": 0.9})
    seen = look(tried, settings(*stages))
    assert seen is not None
    assert seen.ending == "promoted"


def test_answers_that_nobody_can_judge_prove_no_canary(tried: Engine) -> None:
    begin(tried, "canary")
    traffic(tried, 40, right={"v1": 0.5, "v2": 0.9})
    with tried.begin() as connection:
        ids = connection.scalars(select(predictions.c.id)).all()
        insert_generations(connection, [(id_, replace(generation("stop"), answer=None)) for id_ in ids])
    trial = rollout.find_trial(tried, MODEL)
    assert trial is not None
    assert rollout.read_gains(tried, trial) == []
