from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, select, update

from exporter.database import NOW
from monitor import jobs, tables
from monitor.jobs import Job, JobLost, JobRefused, UnknownJob


def add(db: Engine, model: str = "router", key: str = "k1", **more: object) -> int:
    with db.begin() as connection:
        return jobs.enqueue(
            connection,
            model,
            trigger="page",
            dedupe_key=key,
            base_version="v1",
            **more,  # type: ignore[arg-type]
        )


def claimed(db: Engine, worker: str = "w") -> Job:
    job = jobs.claim(db, worker, lease_s=60)
    assert job is not None
    return job


def expire(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(update(tables.jobs).values(lease_until=NOW - 1.0))


def wake(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(update(tables.jobs).values(not_before=NOW - 1.0))


def only(db: Engine) -> Job:
    (job,) = jobs.list_jobs(db)
    return job


def test_a_queued_job_is_claimed_once(db: Engine) -> None:
    id_ = add(db)
    job = claimed(db)
    assert (job.id, job.attempt, job.state, job.worker) == (id_, 1, "running", "w")
    assert jobs.claim(db, "other", lease_s=60) is None


def test_a_model_has_one_active_job_and_the_refusal_names_it(db: Engine) -> None:
    first = add(db)
    with pytest.raises(JobRefused, match=f"job {first} of this model is queued or running"):
        add(db, key="k2")
    add(db, model="other", key="k3")


def test_a_cause_is_answered_once(db: Engine) -> None:
    add(db)
    job = claimed(db)
    with db.begin() as connection:
        jobs.finish(connection, job, verdict={"promote": True})
    with pytest.raises(JobRefused, match="was answered before"):
        add(db)


def test_a_dead_workers_job_goes_to_the_next_attempt_and_the_dead_one_is_fenced(db: Engine) -> None:
    add(db)
    dead = claimed(db)
    expire(db)
    alive = claimed(db, "next")
    assert alive.attempt == 2
    with pytest.raises(JobLost):
        jobs.heartbeat(db, dead, lease_s=60)
    with db.begin() as connection, pytest.raises(JobLost):
        jobs.finish(connection, dead, verdict=None)
    with db.begin() as connection:
        jobs.finish(connection, alive, verdict={"promote": False})
    assert only(db).state == "done"


def test_a_heartbeat_renews_the_lease_and_shows_progress(db: Engine) -> None:
    add(db)
    job = claimed(db)
    expire(db)
    assert not jobs.heartbeat(db, job, lease_s=60, progress={"stage": "fit"})
    assert only(db).progress == {"stage": "fit"}
    assert jobs.claim(db, "thief", lease_s=60) is None


def test_a_failed_attempt_waits_before_the_next_and_the_last_one_ends_the_job(db: Engine) -> None:
    add(db, max_attempts=2)
    first = claimed(db)
    with db.begin() as connection:
        assert jobs.retry(connection, first, "boom")
    assert jobs.claim(db, "w", lease_s=60) is None  # backing off
    wake(db)
    second = claimed(db)
    with db.begin() as connection:
        assert not jobs.retry(connection, second, "boom again")
    assert (only(db).state, only(db).error) == ("failed", "boom again")


def test_a_job_whose_workers_always_die_ends_as_failed(db: Engine) -> None:
    add(db, max_attempts=2)
    for _ in range(2):
        claimed(db)
        expire(db)
    assert jobs.claim(db, "w", lease_s=60) is None
    assert only(db).state == "failed"
    add(db, key="k2")  # and the model is free again


def test_a_job_given_back_has_lost_no_attempt(db: Engine) -> None:
    add(db, max_attempts=1)
    job = claimed(db)
    with db.begin() as connection:
        jobs.give_back(connection, job)
    assert claimed(db).max_attempts == 2


def test_cancelling_ends_a_queued_job_and_asks_a_running_one(db: Engine) -> None:
    first = add(db)
    assert jobs.cancel(db, first) == "cancelled"
    add(db, key="k2")
    job = claimed(db)
    assert jobs.cancel(db, job.id) == "running"
    assert jobs.heartbeat(db, job, lease_s=60)
    with db.begin() as connection:
        jobs.end_cancelled(connection, job)
    with pytest.raises(UnknownJob):
        jobs.cancel(db, job.id)


def test_a_cancelled_job_whose_worker_died_is_not_run_again(db: Engine) -> None:
    add(db)
    job = claimed(db)
    jobs.cancel(db, job.id)
    expire(db)
    assert jobs.claim(db, "w", lease_s=60) is None
    assert only(db).state == "cancelled"


@pytest.mark.parametrize("end", ["retry", "give_back"])
def test_a_job_that_was_cancelled_while_it_ran_is_not_queued_again(db: Engine, end: str) -> None:
    add(db)
    job = claimed(db)
    jobs.cancel(db, job.id)
    with db.begin() as connection:
        if end == "retry":
            assert not jobs.retry(connection, job, "boom")
        else:
            jobs.give_back(connection, job)
    assert only(db).state == "cancelled"
    assert only(db).finished_at is not None
    add(db, key="k2")  # and the model is free again


def test_each_failure_waits_four_times_longer_than_the_one_before(db: Engine) -> None:
    add(db, max_attempts=9)
    waits = []
    for _ in range(3):
        wake(db)
        job = claimed(db)
        with db.begin() as connection:
            jobs.retry(connection, job, "boom")
            wait = connection.execute(select(tables.jobs.c.not_before - NOW)).scalar_one()
        waits.append(wait)
    assert waits == pytest.approx([5.0, 20.0, 80.0], abs=3.0)


@pytest.mark.parametrize("column", ["lease_until", "not_before"])
def test_a_job_written_before_the_clock_was_set_back_is_not_lost(db: Engine, column: str) -> None:
    add(db)
    if column == "lease_until":
        claimed(db)
    with db.begin() as connection:
        connection.execute(update(tables.jobs).values(**{column: NOW + 86400.0}))
    assert claimed(db, "next").worker == "next"


def test_twenty_workers_at_once_share_ten_jobs_without_a_double(db: Engine) -> None:
    for number in range(10):
        add(db, model=f"m{number}", key=f"k{number}")
    found: list[Job | None] = []

    def work(number: int) -> None:
        found.append(jobs.claim(db, f"w{number}", lease_s=60))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [job.id for job in found if job is not None]
    assert len(ids) == len(set(ids))
    while (job := jobs.claim(db, "last", lease_s=60)) is not None:  # SKIP LOCKED may have come away empty
        ids.append(job.id)
    assert sorted(ids) == sorted(job.id for job in jobs.list_jobs(db))
