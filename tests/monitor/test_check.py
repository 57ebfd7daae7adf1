from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, func, select, update

from exporter import registry
from exporter.labels import record_labels
from exporter.loader import store
from exporter.outcomes import Outcomes
from exporter.prediction import Metadata, Prediction
from exporter.registration import register
from exporter.tables import reference
from monitor import episodes, history, jobs, pager, stored_wealth, tables
from monitor.asking import ask_retrain
from monitor.check import CheckResult, run_check
from monitor.settings import ModelSettings, MonitorSettings
from tests.exporter.versions import build_version

SETTINGS = ModelSettings(window=100, min_window=30, min_labels=60, cooldown=0.0, margin=0.2)
MONITOR = MonitorSettings(evidently=False)


class Stream:
    """Synthetic answers of the champion: drawn from its reference, or with the similarity pushed down."""

    def __init__(self, db: Engine, home: Path) -> None:
        self.db, self.home, self.rng, self.sent = db, home, np.random.default_rng(0), 0
        with db.connect() as connection:
            self.rows = (
                connection.execute(select(reference).where(reference.c.version == "v1")).mappings().all()
            )

    def send(
        self, rows: int, *, down: float = 0.0, version: str = "v1", metadata: Metadata | None = None
    ) -> list[str]:
        chosen = [self.rows[number] for number in self.rng.integers(len(self.rows), size=rows)]
        made = [
            Prediction(
                id=f"p{self.sent + number}",
                model="router",
                version=version,
                role="champion",
                at=1e9 + self.sent + number,
                text=f"text {self.sent + number}",
                label=row["label"],
                score=row["score"],
                scores=tuple(row["scores"]),
                embedding=b"",
                similarity=row["similarity"] - down,
                tokens=row["tokens"],
                characters=row["characters"],
                truncated=False,
                queue_ms=0.0,
                run_ms=0.0,
                metadata=metadata or {},
            )
            for number, row in enumerate(chosen)
        ]
        self.sent += rows
        with self.db.begin() as connection:
            store(connection, made)
        return [one.id for one in made]

    def label(self, ids: list[str], label: str = "yes") -> None:
        record_labels(self.db, [(one, label) for one in ids], source="test", now=1e9)

    def check(self, settings: ModelSettings = SETTINGS, *, now: float = 1e9) -> CheckResult:
        return run_check(self.db, self.home, "router", settings, MONITOR, now=now)


@pytest.fixture
def stream(db: Engine, tmp_path: Path) -> Iterator[Stream]:
    built = build_version(tmp_path / "built", holdout_rows=400)
    version = register(db, tmp_path, built, threads=1, now=1e9)
    registry.promote(db, "router", version, expected=None, reason="first", actor="test")
    return Stream(db, tmp_path)  # type: ignore[return-value]


def count(db: Engine, table: object) -> int:
    with db.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]


def test_a_model_nobody_serves_is_not_checked(db: Engine, tmp_path: Path) -> None:
    assert run_check(db, tmp_path, "nobody", SETTINGS, MONITOR).version is None


def test_nothing_is_written_until_a_window_is_complete(stream: Stream) -> None:
    stream.send(99)
    assert stream.check().checks == ()
    stream.send(1)
    (checked,) = stream.check().checks
    assert (checked.rows, checked.state, checked.paged) == (100, "ok", False)
    assert stream.check().checks == ()


def test_several_complete_windows_are_judged_in_order_and_each_row_once(stream: Stream) -> None:
    stream.send(350)
    found = stream.check().checks
    assert [checked.rows for checked in found] == [100, 100, 100]
    with stream.db.connect() as connection:
        spans = connection.execute(
            select(tables.checks.c.first_seq, tables.checks.c.last_seq).order_by("id")
        ).all()
    assert [tuple(span) for span in spans] == [(1, 100), (101, 200), (201, 300)]


def test_a_drift_pages_opens_an_episode_and_waits_for_labels(stream: Stream) -> None:
    stream.send(100)
    ids = stream.send(100, down=0.5)
    first, second = stream.check().checks
    assert not first.paged
    assert second.paged
    assert (second.state, second.decision.action, second.job) == ("drift", "wait", None)
    with stream.db.connect() as connection:
        (episode,) = [one for one in episodes.list_open(connection) if one.cause == "drift"]
    assert (episode.state, episode.detail["onset_seq"]) == ("firing", 101)
    stream.label(ids[:60])
    result = stream.check()  # the labels are enough now
    assert result.job is not None
    (job,) = jobs.list_jobs(stream.db)
    assert (job.trigger, job.episode_id, job.base_version) == ("page", episode.id, "v1")
    assert stream.check().job is None  # one job for one episode


def test_an_open_page_is_reconsidered_without_new_rows(stream: Stream) -> None:
    ids = stream.send(100, down=0.5)
    assert stream.check().paged
    stream.label(ids[:25])
    settings = SETTINGS.model_copy(update={"min_labels": 25})
    result = stream.check(settings)
    assert result.checks == ()
    assert result.job is not None


def test_labels_alone_are_judged_when_enough_have_come(stream: Stream) -> None:
    ids = stream.send(90)
    stream.label(ids[:29])
    assert stream.check().checks == ()
    stream.label(ids[29:30])
    (checked,) = stream.check().checks
    assert (checked.rows, checked.labelled) == (0, 30)
    assert [one.detector for one in checked.evidence] == ["accuracy"]
    assert stream.check().checks == ()


def test_a_page_is_paid_from_the_years_budget_and_each_pager_spends_less(stream: Stream) -> None:
    stream.send(100, down=0.5)
    stream.check()
    with stream.db.begin() as connection:
        history.end_pager(connection, "router", 1e9)
    stream.send(100, down=0.5)
    stream.check()
    with stream.db.connect() as connection:
        alphas = (
            connection.execute(select(tables.pagers.c.alpha).order_by(tables.pagers.c.id)).scalars().all()
        )
        starts = [one["windows"] for one in connection.execute(select(tables.wealth.c.state)).scalars()]
    assert alphas == pytest.approx([0.02 / 2, 0.02 / 6])
    assert max(starts) == 1  # the second pager began from e = 1


def test_a_new_champion_has_a_pager_and_a_cursor_of_its_own(stream: Stream, tmp_path: Path) -> None:
    stream.send(150, down=0.5)
    stream.check()
    built = build_version(tmp_path / "second", holdout_rows=400, seed=1, parent="v1")
    register(stream.db, tmp_path, built, threads=1, now=1e9)
    registry.promote(stream.db, "router", "v2", expected="v1", reason="test", actor="test")
    stream.send(99, version="v2")
    assert stream.check().checks == ()
    stream.send(1, version="v2")
    (checked,) = stream.check().checks
    assert checked.rows == 100
    with stream.db.connect() as connection:
        assert history.open_pager(connection, "router", "v1") is None
        assert history.open_pager(connection, "router", "v2") is not None


def test_the_second_of_two_checks_of_the_same_rows_writes_nothing(stream: Stream) -> None:
    from monitor import check
    from monitor import facts as reading

    stream.send(100)
    facts = reading.read_facts(stream.db, "router", "v1", SETTINGS, 1e9)
    assert facts is not None
    assert len(stream.check().checks) == 1
    judged = reading.judge_facts(facts, SETTINGS, None)
    assert check._write(stream.db, facts, judged, SETTINGS, MONITOR, 1e9) is None
    assert count(stream.db, tables.checks) == 1


def test_a_schedule_asks_only_where_labels_are_new_and_each_slot_asks_once(stream: Stream) -> None:
    def ask() -> int | None:
        return ask_retrain(
            stream.db, "router", SETTINGS, MONITOR, asked="schedule", now=1e9, key="retrain:router@5"
        )[1]

    assert ask() is None
    stream.label(stream.send(80))
    first = ask()
    assert first is not None
    jobs.cancel(stream.db, first)
    assert ask() is None


def test_rejected_challengers_in_a_row_stop_the_automatic_retrains(stream: Stream) -> None:
    settings = SETTINGS.model_copy(update={"max_rejected": 1})
    stream.label(stream.send(100, down=0.5))
    assert stream.check(settings).job is not None
    with stream.db.begin() as connection:
        rejected = {"state": "done", "verdict": {"promote": False}, "finished_at": 1e9}
        connection.execute(update(tables.jobs).values(**rejected))
    stream.label(stream.send(100, down=0.5))
    (checked,) = stream.check(settings, now=1e9 + 1).checks
    assert checked.decision.action == "wait"
    assert "Circuit breaker" in " ".join(checked.decision.reasons)


def test_an_evidently_threshold_fires_asks_for_a_retrain_and_is_resolved_when_it_is_kept(
    stream: Stream, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"thresholds": {"drift_characters": 0.5}})
    with stream.db.begin() as connection:
        connection.execute(update(reference).values(characters=20))
    stream.label(stream.send(100))
    result = run_check(stream.db, tmp_path, "router", settings, MonitorSettings(evidently=True), now=1e9)
    (checked,) = result.checks
    assert checked.report is not None
    assert (tmp_path / "reports" / checked.report).exists()
    with stream.db.connect() as connection:
        causes = [one.cause for one in episodes.list_open(connection) if one.state == "firing"]
    assert "threshold:drift_characters" in causes


def test_a_threshold_that_was_taken_out_of_the_configuration_alerts_and_retrains_no_more(
    stream: Stream,
) -> None:
    kept = SETTINGS.model_copy(update={"thresholds": {"drift_characters": 0.5}})
    with stream.db.begin() as connection:
        for cause in ("threshold:drift_characters", "drift"):
            episodes.observe(
                connection, model="router", version="v1", cause=cause, signal="page", lasting=False,
                detail={"onset_seq": 1}, now=1e9,
            )  # fmt: skip
    for settings, left in ((kept, ["threshold:drift_characters", "drift"]), (SETTINGS, ["drift"])):
        stream.send(100)
        stream.check(settings)
        with stream.db.connect() as connection:
            assert [one.cause for one in episodes.list_open(connection, "router")] == left


def test_a_period_is_judged_when_it_is_over_whatever_its_rows(stream: Stream) -> None:
    settings = SETTINGS.model_copy(update={"period": 3600.0})
    stream.send(3000)
    first = stream.check(settings).checks
    stream.send(3000)
    later = stream.check(settings).checks
    ends = [checked.end_at for checked in first + later]
    assert all(end is not None and end % 3600 == 3599 for end in ends)
    assert sum(checked.rows for checked in first + later) == 3600 * len(ends) - int(1e9 % 3600)


def test_a_seasonal_model_bets_on_nothing_before_its_first_day_is_complete(stream: Stream) -> None:
    settings = SETTINGS.model_copy(update={"season": "hour-of-day"})
    stream.send(100, down=0.5)
    (checked,) = stream.check(settings).checks
    assert (checked.state, checked.paged) == ("not enough data", False)
    assert {one.log_e for one in checked.evidence} == {None}
    assert {one.p_value for one in checked.evidence} == {None}


def test_another_season_ends_the_pager_and_the_next_one_spends_its_own_part(stream: Stream) -> None:
    stream.send(100, down=0.5)
    stream.check()
    with stream.db.begin() as connection:
        held = connection.execute(select(tables.wealth).where(tables.wealth.c.detector == "similarity"))
        state = dict(held.mappings().one()["state"])
        other = pager.new_wealth([[10, 11], [10, 11]], "down")
        assert state["strata"] == 1
        connection.execute(
            update(tables.wealth)
            .where(tables.wealth.c.detector == "similarity")
            .values(state=stored_wealth.to_json(other))
        )
    stream.send(100)
    stream.check()
    with stream.db.connect() as connection:
        alphas = (
            connection.execute(select(tables.pagers.c.alpha).order_by(tables.pagers.c.id)).scalars().all()
        )
    assert alphas == pytest.approx([0.02 / 2, 0.02 / 6])


def test_requests_that_fail_more_often_than_tolerated_page_by_the_hour_and_never_retrain(
    stream: Stream,
) -> None:
    clock = [3600.0 * 100]
    outcomes = Outcomes(now=lambda: clock[0])
    settings = SETTINGS.model_copy(update={"error_rate": 0.02})

    def hour(answered: int, failed: int) -> CheckResult:
        for outcome, times in (("answered", answered), ("failed", failed)):
            for _ in range(times):
                outcomes.add("router", "v1", outcome)  # type: ignore[arg-type]
        outcomes.write(stream.db)
        clock[0] += 3600
        assert stream.check(settings, now=clock[0] + 30).checks == ()  # exporters may still write
        return stream.check(settings, now=clock[0] + 60)

    (quiet,) = hour(490, 10).checks
    assert not quiet.paged
    assert [one.detector for one in quiet.evidence] == ["error_rate"]
    assert hour(20, 1).checks == ()  # fewer than min_window: they wait for more
    (more,) = hour(100, 2).checks
    assert more.evidence[0].rows == 123
    (page,) = hour(100, 60).checks
    assert page.paged
    assert page.evidence[0].effect == pytest.approx(60 / 160 - 0.02)
    assert page.decision.causes == ("error_rate",)
    assert page.decision.action == "none"
    assert stream.check(settings, now=clock[0] + 60).checks == ()
    with stream.db.connect() as connection:
        rates = connection.scalars(select(tables.checks.c.error_rate).order_by("id")).all()
    assert rates == pytest.approx([0.02, 3 / 123, 60 / 160])
    hour(600, 3)
    with stream.db.connect() as connection:
        (ended,) = episodes.list_episodes(connection, "router")
    assert (ended.cause, ended.state) == ("error_rate", "resolved")
    assert not hour(600, 3).checks[0].paged  # by a pager of its own
