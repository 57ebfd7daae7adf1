from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine, update

from exporter import registry
from exporter.database import NOW, open_database, sqlite_url
from monitor import episodes, jobs, retrain, tables
from monitor.check import run_check
from monitor.compose import NothingNewError, compose
from monitor.jobs import Job, JobLost
from monitor.migrate import upgrade
from monitor.proof import APART
from monitor.retrain import Workshop, run_job
from monitor.settings import ModelSettings, MonitorSettings
from tests.monitor import tiny
from trainer.artifact import open_version
from trainer.rows import read_holdout, read_snapshot
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SETTINGS = ModelSettings(
    window=100, min_window=30, min_labels=100, label_growth=5.0, cooldown=0.0, margin=0.15
)
MONITOR = MonitorSettings(evidently=False, max_attempts=9)
STAGES = ("data", "fit", "export", "parity", "seal")
T0 = 1.7e9


@dataclass(slots=True)
class Desk:
    """A service with v1, drifted traffic and truth for it."""

    home: Path
    db: Engine
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    sent: int = 0

    def send(self, rows: int, *, new: bool, truth: bool) -> None:
        mail = tiny.mail(self.rng, rows, new=new)
        version = registry.champion(self.db, "desks")
        assert version is not None
        ids = tiny.answer(self.db, version, [text for text, _ in mail], first=self.sent, at=T0 + self.sent)
        self.sent += rows
        if truth:
            tiny.tell_truth(self.db, ids, [desk for _, desk in mail], now=T0 + self.sent)

    def check(self) -> Any:
        return run_check(self.db, self.home, "desks", SETTINGS, MONITOR, now=T0 + self.sent)

    def shop(self, **more: Any) -> Workshop:
        trainer = TrainerSettings(cache=self.home / "cache")
        return Workshop(
            db=self.db, home=self.home, settings=SETTINGS, monitor=MONITOR, trainer=trainer, threads=1, **more
        )

    def claim(self) -> Job:
        """The next attempt, without waiting for back-off or for a dead worker's lease."""
        with self.db.begin() as connection:
            connection.execute(update(tables.jobs).values(not_before=NOW - 1.0, lease_until=NOW - 1.0))
        job = jobs.claim(self.db, "test", lease_s=60)
        assert job is not None
        return job


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One chain of events for the module: each test goes on where the one before stopped."""
    home = tmp_path_factory.mktemp("desk")
    db = open_database(sqlite_url(home))
    upgrade(db)
    tiny.train_first(db, home, tiny.build_base(home / "base"))
    yield Desk(home, db)
    db.dispose()


def kill_child() -> None:
    for child in psutil.Process().children():
        if "trainer" in child.cmdline():
            child.kill()


def test_there_is_nothing_to_learn_before_labels_come(desk: Desk) -> None:
    desk.send(100, new=False, truth=False)
    with pytest.raises(NothingNewError):
        compose(desk.db, desk.home, "desks", "v1", SETTINGS, since_seq=0)


def test_drift_pages_and_queues_one_retrain(desk: Desk) -> None:
    assert not desk.check().paged
    desk.send(300, new=True, truth=True)
    result = desk.check()
    assert result.paged
    assert result.job is not None
    assert len(jobs.list_jobs(desk.db)) == 1


def test_no_row_is_both_learnt_and_held_out(desk: Desk) -> None:
    desk.send(100, new=True, truth=False)
    lesson = compose(desk.db, desk.home, "desks", "v1", SETTINGS, since_seq=101)
    learnt, held = {row.text for row in lesson.rows}, [row.text for row in lesson.holdout]
    assert learnt.isdisjoint(held)
    assert len(held) == len(set(held))
    parent = read_holdout(registry.version_path(desk.db, "desks", "v1") / "holdout.parquet")
    assert held[: lesson.pairing.base_rows] == [row.text for row in parent]
    assert len(lesson.pairing.recent_ids) == round(APART * 300)
    assert len(lesson.pairing.judged_ids) == len(lesson.judged) == 300 - round(APART * 300)
    assert {row.text for row in lesson.judged} <= learnt
    assert {row.origin for row in lesson.rows} == {"base", "traffic"}
    recent = [row for row in lesson.holdout if row.slice == "recent"]
    assert sum(row.label is None for row in recent) == 100
    assert all(row.in_reference for row in recent)
    assert (
        not any(row.in_reference for row in lesson.holdout[: lesson.pairing.base_rows]) or len(recent) < 100
    )


def test_a_child_killed_at_any_stage_leaves_the_champion_and_the_job_ends_once(desk: Desk) -> None:
    for stage in STAGES:

        def watch(line: dict[str, Any], fatal: str = stage) -> None:
            if line["stage"] == fatal:
                kill_child()

        assert run_job(desk.shop(watch=watch), desk.claim()) is None
        (job,) = jobs.list_jobs(desk.db)
        assert (job.state, job.error is not None and "signal 9" in job.error) == ("queued", True)
        assert registry.champion(desk.db, "desks") == "v1"
        open_version(registry.version_path(desk.db, "desks", "v1"))
        assert [row.version for row in registry.list_versions(desk.db)] == ["v1"]


class MonitorKilled(BaseException):
    """Stands for the death of the monitor itself."""


def test_a_monitor_that_dies_after_sealing_or_registering_trains_and_registers_once(desk: Desk) -> None:
    def die(line: dict[str, Any]) -> None:
        if line["stage"] == "register":
            raise MonitorKilled

    with pytest.raises(MonitorKilled):
        run_job(desk.shop(watch=die), desk.claim())
    stages: list[str] = []
    registering = desk.claim()
    version, _ = retrain._candidate(desk.shop(watch=lambda line: stages.append(line["stage"])), registering)
    assert stages == ["register"]
    last = desk.claim()
    assert last.candidate == version == "v2"
    with pytest.raises(JobLost):  # the dead one comes back to life
        run_job(desk.shop(), registering)
    verdict = run_job(desk.shop(now=T0 + desk.sent), last)
    assert verdict is not None
    assert verdict["promote"], verdict["reasons"]
    assert [row.version for row in registry.list_versions(desk.db)] == ["v1", "v2"]


def test_the_promotion_switched_the_champion_ended_the_job_and_resolved_the_page(desk: Desk) -> None:
    (job,) = jobs.list_jobs(desk.db)
    assert (job.state, job.candidate, job.verdict is not None) == ("done", "v2", True)
    assert registry.champion(desk.db, "desks") == "v2"
    with desk.db.connect() as connection:
        assert episodes.list_open(connection) == []
    assert not (desk.home / "jobs" / str(job.id)).exists()
    manifest = open_version(registry.version_path(desk.db, "desks", "v2")).manifest
    assert len(read_snapshot(desk.home / "data" / f"{manifest.data.sha256}.parquet")) == manifest.data.rows


def test_fresh_traffic_after_the_promotion_is_quiet_and_answered_well(desk: Desk) -> None:
    desk.send(200, new=True, truth=True)
    result = desk.check()
    assert not result.paged
    accuracy = next(one.accuracy for one in result.checks if one.accuracy is not None)
    assert accuracy is not None
    assert accuracy > 0.9


def test_a_cancelled_job_stops_its_child_and_ends(desk: Desk) -> None:
    with desk.db.begin() as connection:
        id_ = jobs.enqueue(connection, "desks", trigger="manual", dedupe_key="by hand", base_version="v2")

    def watch(line: dict[str, Any]) -> None:
        if line["stage"] == "data":
            jobs.cancel(desk.db, id_)

    assert run_job(desk.shop(watch=watch), desk.claim()) is None
    assert jobs.list_jobs(desk.db)[0].state == "cancelled"
    assert not [child for child in psutil.Process().children() if "trainer" in child.cmdline()]
