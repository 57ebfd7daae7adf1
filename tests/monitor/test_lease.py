from __future__ import annotations

import time
from threading import Thread

import pytest
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from exporter.database import NOW
from monitor import lease
from monitor.errors import MonitorError
from monitor.lease import acquire, again, brief, hold, holds, kept, new_holder, release
from monitor.tables import leases


@pytest.fixture
def postgresql_db(db: Engine) -> Engine:
    if db.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    return db


def expire(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(update(leases).values(expires_at=NOW - 1.0))


def test_first_holder_leads_in_the_first_epoch_and_keeps_it_by_renewing(db: Engine) -> None:
    assert acquire(db, "s", "a", lease_s=60) == 1
    assert acquire(db, "s", "a", lease_s=60) == 1


def test_nobody_else_leads_while_the_lease_lasts(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    assert acquire(db, "s", "b", lease_s=60) is None


def test_an_expired_lease_is_taken_over_in_a_new_epoch(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    expire(db)
    assert acquire(db, "s", "b", lease_s=60) == 2
    assert acquire(db, "s", "a", lease_s=60) is None


def test_a_released_lease_is_free_at_once(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    release(db, "s", "b")
    assert acquire(db, "s", "b", lease_s=60) is None
    release(db, "s", "a")
    assert acquire(db, "s", "b", lease_s=60) == 2


def test_a_reign_that_ended_is_not_held(db: Engine) -> None:
    epoch = acquire(db, "s", "a", lease_s=60)
    assert epoch is not None
    with brief(db) as connection:
        assert hold(connection, "s", "a", epoch)
    expire(db)
    with brief(db) as connection:
        assert not hold(connection, "s", "a", epoch)
    acquire(db, "s", "b", lease_s=60)
    with db.connect() as connection:
        assert not holds(connection, "s", "a", epoch)
        assert holds(connection, "s", "b", epoch + 1)


def test_a_lease_written_before_the_clock_was_set_back_keeps_nobody_out(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=3)
    with db.begin() as connection:
        connection.execute(update(leases).values(expires_at=NOW + 3600.0))
    assert acquire(db, "s", "b", lease_s=3) == 2


def test_on_postgresql_no_reign_begins_within_a_leaders_transaction(postgresql_db: Engine) -> None:
    epoch = acquire(postgresql_db, "s", "a", lease_s=0.2)
    assert epoch is not None
    with brief(postgresql_db) as connection:
        assert hold(connection, "s", "a", epoch)
        thread = Thread(target=acquire, args=(postgresql_db, "s", "b"), kwargs={"lease_s": 60})
        time.sleep(0.3)
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()  # the lease has ended, the write has not
    thread.join(10)
    assert acquire(postgresql_db, "s", "b", lease_s=60) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_FROZEN_S", 1.0)


@pytest.mark.usefixtures("impatient")
def test_postgresql_undoes_the_transaction_of_a_process_that_stands_still(postgresql_db: Engine) -> None:
    with pytest.raises(SQLAlchemyError), brief(postgresql_db) as connection:  # noqa: PT012
        connection.execute(insert(leases).values(name="s", holder="a", epoch=1, expires_at=NOW + 60.0))
        time.sleep(1.5)
        connection.execute(select(leases.c.name))
    assert acquire(postgresql_db, "s", "b", lease_s=60) == 1


@pytest.mark.usefixtures("impatient")
def test_what_was_undone_in_silence_is_done_again(postgresql_db: Engine) -> None:
    pauses = [1.5, 0.0]

    def act() -> str:
        with brief(postgresql_db) as connection:
            connection.execute(insert(leases).values(name="s", holder="a", epoch=1, expires_at=0.0))
            time.sleep(pauses.pop(0))
            connection.execute(select(leases.c.name))
        return "done"

    assert again(act) == "done"
    assert acquire(postgresql_db, "s", "b", lease_s=60) == 2


def test_another_error_is_not_tried_again(db: Engine) -> None:
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        with brief(db) as connection:
            connection.execute(text("select nothing_of_this_name"))

    with pytest.raises(SQLAlchemyError):
        again(act)
    assert calls == [1]


def test_work_is_kept_while_it_lasts() -> None:
    beats: list[float] = []
    with kept(lambda: beats.append(time.monotonic()), every_s=0.02):
        time.sleep(0.3)
    after = len(beats)
    time.sleep(0.1)
    assert 2 <= after == len(beats)


def test_work_whose_lease_was_lost_raises_after_it_and_stops_beating() -> None:
    def lost() -> None:
        calls.append(1)
        raise MonitorError("lost")

    calls: list[int] = []
    ended = False
    with pytest.raises(MonitorError, match="lost"), kept(lost, every_s=0.02):  # noqa: PT012
        time.sleep(0.2)
        ended = True
    assert (ended, calls) == (True, [1])


def test_work_outlives_a_database_that_does_not_answer_for_a_moment() -> None:
    calls: list[int] = []

    def beat() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OperationalError("select 1", {}, Exception("database is locked"))

    with kept(beat, every_s=0.02):
        time.sleep(0.3)
    assert len(calls) > 1


def test_each_start_of_a_process_has_a_name_of_its_own() -> None:
    assert new_holder() != new_holder()
