from __future__ import annotations

from sqlalchemy import Engine

from monitor import episodes
from monitor.episodes import Episode, Signal


def observe(
    db: Engine, signal: Signal, *, cause: str = "drift", lasting: bool = True, now: float = 100.0
) -> Episode | None:
    with db.begin() as connection:
        return episodes.observe(
            connection, model="router", version="v1", cause=cause, signal=signal, lasting=lasting,
            detail={"reasons": ["similarity fell"]}, now=now,
        )  # fmt: skip


def newest(db: Engine) -> Episode:
    with db.connect() as connection:
        return episodes.list_episodes(connection)[0]


def test_an_episode_rises_fires_and_is_resolved(db: Engine) -> None:
    assert observe(db, "quiet") is None
    pending = observe(db, "rising", now=1.0)
    firing = observe(db, "page", now=2.0)
    assert pending is not None
    assert firing is not None
    assert (pending.state, firing.state, firing.id) == ("pending", "firing", pending.id)
    with db.begin() as connection:
        assert episodes.resolve(connection, "router", reason="v2 was promoted", now=3.0) == [firing.id]
    done = newest(db)
    assert (done.state, done.opened_at, done.fired_at, done.resolved_at) == ("resolved", 1.0, 2.0, 3.0)


def test_a_cause_has_one_open_episode(db: Engine) -> None:
    first, second, other = observe(db, "page"), observe(db, "page"), observe(db, "page", cause="class_mix")
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.id == second.id != other.id


def test_a_proven_drift_lasts_and_a_threshold_ends_by_itself(db: Engine) -> None:
    observe(db, "page")
    observe(db, "page", cause="threshold:accuracy", lasting=False)
    drift = observe(db, "quiet")
    threshold = observe(db, "quiet", cause="threshold:accuracy", lasting=False)
    assert drift is not None
    assert threshold is not None
    assert (drift.state, threshold.state) == ("firing", "resolved")


def test_an_episode_that_never_fired_ends_without_a_word(db: Engine) -> None:
    observe(db, "rising")
    observe(db, "quiet")
    assert (newest(db).state, newest(db).fired_at) == ("resolved", None)
