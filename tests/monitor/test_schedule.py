from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import apscheduler.schedulers.base
import pytest
from sqlalchemy import Engine, delete, insert, select, update

import monitor.clock
from exporter.database import NOW
from monitor.clock import start_clock
from monitor.cron import BadSchedule, next_due, parse
from monitor.lease import LEADER, acquire
from monitor.schedule import SlotLost, claim_slot, finish_slot, keep_slot, tick
from monitor.tables import due_slots


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def berlin(due: float) -> str:
    return datetime.fromtimestamp(due, ZoneInfo("Europe/Berlin")).isoformat()


@pytest.mark.parametrize(
    ("cron", "weekday"),
    [("0 3 * * 0", "Sunday"), ("0 3 * * 7", "Sunday"), ("0 3 * * 1", "Monday"), ("0 3 * * sat", "Saturday")],
)
def test_weekdays_are_those_of_cron_and_not_of_apscheduler(cron: str, weekday: str) -> None:
    (due,) = next_due(cron, "UTC", after=at("2026-11-18T00:00:00+00:00"))
    assert datetime.fromtimestamp(due, UTC).strftime("%A %H:%M") == f"{weekday} 03:00"


def test_a_fixed_wall_minute_is_due_once_when_the_clocks_go_back() -> None:
    due = next_due("30 2 * * *", "Europe/Berlin", after=at("2026-10-24T12:00:00+02:00"), count=2)
    assert [berlin(one) for one in due] == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_a_wall_minute_that_does_not_exist_is_due_an_hour_later_by_the_clock() -> None:
    due = next_due("30 2 * * *", "Europe/Berlin", after=at("2026-03-28T12:00:00+01:00"), count=2)
    assert [berlin(one) for one in due] == ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]


def test_every_five_minutes_stays_every_five_minutes_when_the_clocks_go_back() -> None:
    due = next_due("*/5 * * * *", "Europe/Berlin", after=at("2026-10-25T02:00:00+02:00"), count=36)
    assert {round(b - a) for a, b in pairwise(due)} == {300}


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "every", "every now", "every 0s", "0 3 * * 9"])
def test_a_text_that_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(BadSchedule):
        parse(text)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(BadSchedule):
        parse("0 3 * * *", "Europe/Atlantis")


def lead(db: Engine, holder: str = "a") -> int:
    epoch = acquire(db, LEADER, holder, lease_s=60)
    assert epoch is not None
    return epoch


def slots(db: Engine, state: str = "queued") -> list[float]:
    with db.connect() as connection:
        statement = select(due_slots.c.due_at).where(due_slots.c.state == state).order_by(due_slots.c.due_at)
        return list(connection.execute(statement).scalars())


def last_slot_was(db: Engine, ago_s: float) -> float:
    """Begin a schedule and move its beginning into the past."""
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    with db.begin() as connection:
        connection.execute(update(due_slots).values(due_at=NOW - ago_s))
    return slots(db, "done")[0]


def test_a_new_schedule_owes_nothing_for_the_past(db: Engine) -> None:
    assert tick(db, {"check:m": parse("every 1h")}, holder="a", epoch=lead(db)) == 1
    assert slots(db) == []


def test_every_slot_since_the_last_one_is_inserted_however_long_nobody_led(db: Engine) -> None:
    began = last_slot_was(db, 20.0)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    due = slots(db)
    assert due == [float(n) for n in range(int(began) + 1, int(due[-1]) + 1)]
    assert len(due) >= 19


def test_slots_missed_for_long_collapse_to_the_newest(db: Engine) -> None:
    last_slot_was(db, 40 * 86400.0)
    tick(db, {"check:m": parse("0 3 * * 0")}, holder="a", epoch=lead(db))
    (due,) = slots(db)
    assert datetime.fromtimestamp(due, UTC).strftime("%A %H:%M") == "Sunday 03:00"


def test_a_second_tick_doubles_nothing(db: Engine) -> None:
    last_slot_was(db, 10.0)
    rules = {"check:m": parse("every 1h"), "retrain:m": parse("every 2h")}
    tick(db, rules, holder="a", epoch=lead(db))
    assert tick(db, rules, holder="a", epoch=lead(db)) == 0


def test_a_leader_whose_reign_ended_inserts_nothing(db: Engine) -> None:
    last_slot_was(db, 10.0)
    assert tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=99) == 0
    assert tick(db, {"check:m": parse("every 1s")}, holder="b", epoch=1) == 0
    assert slots(db) == []


def test_a_slot_is_worked_once_and_a_replaced_worker_cannot_end_it(db: Engine) -> None:
    last_slot_was(db, 1.5)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    slot = claim_slot(db, "w1", lease_s=60)
    assert slot is not None
    keep_slot(db, slot, lease_s=60)
    with db.begin() as connection:
        connection.execute(
            update(due_slots).where(due_slots.c.state == "running").values(lease_until=NOW - 1)
        )
    again = claim_slot(db, "w2", lease_s=60)
    assert again is not None
    assert (again.due_at, again.attempt) == (slot.due_at, 2)
    with db.begin() as connection, pytest.raises(SlotLost):
        finish_slot(connection, slot)
    with db.begin() as connection:
        finish_slot(connection, again)


def test_a_failed_slot_keeps_its_error(db: Engine) -> None:
    last_slot_was(db, 1.5)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    slot = claim_slot(db, "w", lease_s=60)
    assert slot is not None
    with db.begin() as connection:
        finish_slot(connection, slot, error="boom")
    with db.connect() as connection:
        found = (
            connection.execute(select(due_slots.c.error).where(due_slots.c.state == "failed")).scalars().all()
        )
    assert found == ["boom"]


def test_a_slot_that_kills_its_workers_ends_as_failed_and_lets_the_others_in(db: Engine) -> None:
    last_slot_was(db, 2.5)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    first = slots(db)[0]
    for _ in range(10):
        slot = claim_slot(db, "w", lease_s=60)
        assert slot is not None
        assert slot.due_at == first
        with db.begin() as connection:
            running = due_slots.c.state == "running"
            connection.execute(update(due_slots).where(running).values(lease_until=NOW - 1))
    slot = claim_slot(db, "w", lease_s=60)
    assert slot is not None
    assert slot.due_at == first + 1.0
    assert slots(db, "failed") == [first]


def test_a_clock_set_back_repeats_no_slot_and_stops_no_schedule(db: Engine) -> None:
    last_slot_was(db, 5.0)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    with db.begin() as connection:  # an hour from now, as the clock was for a moment
        later = insert(due_slots).values(
            schedule="check:m", due_at=NOW + 3600.0, state="done", attempt=1, epoch=1
        )
        connection.execute(later)
        newest = max(slots(db))
        connection.execute(delete(due_slots).where(due_slots.c.due_at == newest))
    assert tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db)) >= 1
    due = slots(db)
    assert newest in due
    assert len(due) == len(set(due))


def test_a_slot_written_before_the_clock_was_set_back_is_not_held_for_ever(db: Engine) -> None:
    last_slot_was(db, 1.5)
    tick(db, {"check:m": parse("every 1s")}, holder="a", epoch=lead(db))
    assert claim_slot(db, "w1", lease_s=60) is not None
    with db.begin() as connection:
        running = due_slots.c.state == "running"
        connection.execute(update(due_slots).where(running).values(lease_until=NOW + 86400.0))
    again = claim_slot(db, "w2", lease_s=60)
    assert again is not None
    assert again.attempt == 2


def test_the_clock_calls_again_and_again_until_it_is_shut_down() -> None:
    calls = threading.Semaphore(0)
    clock = start_clock(calls.release, every_s=0.02)
    assert calls.acquire(timeout=10)
    assert calls.acquire(timeout=10)
    clock.shutdown()
    assert not clock.running


def test_a_slow_step_of_the_clock_does_not_hold_up_the_other() -> None:
    calls, end = threading.Semaphore(0), threading.Event()

    def slow() -> None:
        end.wait(10)

    clock = start_clock(calls.release, slow, every_s=0.02)
    for _ in range(5):
        assert calls.acquire(timeout=10)
    assert not end.is_set()
    end.set()
    clock.shutdown()


@pytest.mark.parametrize("jump", [-timedelta(hours=1), timedelta(days=365)])
def test_the_clock_goes_on_when_the_machines_time_jumps(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + jump

    calls = threading.Semaphore(0)
    clock = start_clock(calls.release, every_s=0.02)
    assert calls.acquire(timeout=10)
    for module in (apscheduler.schedulers.base, monitor.clock):
        monkeypatch.setattr(module, "datetime", Jumped)
    time.sleep(0.1)
    while calls.acquire(blocking=False):
        pass
    assert all(calls.acquire(timeout=5) for _ in range(5))
    clock.shutdown()
