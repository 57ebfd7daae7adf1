from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from monitor.cron import BadSchedule, next_due, parse

# The two Sundays of 2026 on which the clocks of a zone change: forward, back.
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),  # 2:00 -> 3:00, 3:00 -> 2:00
    "America/New_York": ("2026-03-08", "2026-11-01"),  # 2:00 -> 3:00, 2:00 -> 1:00
    "Africa/Cairo": ("2026-04-24", "2026-10-30"),  # 0:00 -> 1:00, 24:00 -> 23:00 of the day before
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),  # by half an hour
}
DAY = timedelta(days=1)


def around(zone: str, day: str) -> tuple[float, float]:
    """From noon two days before to noon the day after."""
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo(zone))
    return (noon - 2 * DAY).timestamp(), (noon + DAY).timestamp()


def local(zone: str, due: list[float]) -> list[str]:
    return [datetime.fromtimestamp(one, ZoneInfo(zone)).strftime("%m-%d %H:%M %z") for one in due]


def wall_minutes(zone: str, after: float, until: float) -> Iterator[tuple[float, datetime]]:
    """Every minute that passes in (after, until], and what the clock on the wall shows."""
    for minute in range(int(after) // 60 + 1, int(until) // 60 + 1):
        yield minute * 60.0, datetime.fromtimestamp(minute * 60, ZoneInfo(zone))


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("minutes", ["*", "*/5", "7", "0,30"])
def test_every_hour_is_due_whenever_the_wall_shows_its_minute(zone: str, which: int, minutes: str) -> None:
    after, until = around(zone, CHANGES[zone][which])
    wanted = {int(part) for part in minutes.split(",")} if minutes[0] != "*" else None
    step = 5 if minutes == "*/5" else 1
    expected = [
        at
        for at, wall in wall_minutes(zone, after, until)
        if (wall.minute in wanted if wanted is not None else wall.minute % step == 0)
    ]
    assert list(parse(f"{minutes} * * * *", zone).between(after, until)) == expected


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("minute", [0, 15, 30])
def test_a_daily_time_is_due_once_on_each_day(zone: str, which: int, hour: int, minute: int) -> None:
    after, until = around(zone, CHANGES[zone][which])
    due = list(parse(f"{minute} {hour} * * *", zone).between(after, until))
    days = [datetime.fromtimestamp(one, ZoneInfo(zone)).date() for one in due]
    assert len(days) == len(set(days)) == 3
    assert max(b - a for a, b in pairwise(due)) <= 25 * 3600


@pytest.mark.parametrize(
    ("zone", "cron", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", ["03-28 02:30 +0100", "03-29 03:30 +0200", "03-30 02:30 +0200"]),
        ("America/New_York", "30 2 * * *", ["03-07 02:30 -0500", "03-08 03:30 -0400", "03-09 02:30 -0400"]),
    ],
)
def test_a_time_in_the_skipped_hour_is_due_an_hour_later(zone: str, cron: str, expected: list[str]) -> None:
    first = datetime.fromisoformat(f"{CHANGES[zone][0]}T00:00:00").replace(tzinfo=ZoneInfo(zone)) - DAY
    assert local(zone, next_due(cron, zone, after=first.timestamp(), count=3)) == expected


@pytest.mark.parametrize(
    ("zone", "cron", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", ["10-24 02:30 +0200", "10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("America/New_York", "30 1 * * *", ["10-31 01:30 -0400", "11-01 01:30 -0400", "11-02 01:30 -0500"]),
    ],
)
def test_a_time_in_the_repeated_hour_is_due_the_first_time(zone: str, cron: str, expected: list[str]) -> None:
    first = datetime.fromisoformat(f"{CHANGES[zone][1]}T00:00:00").replace(tzinfo=ZoneInfo(zone)) - DAY
    assert local(zone, next_due(cron, zone, after=first.timestamp(), count=3)) == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_times_that_the_skipped_hour_brings_together_are_due_once(zone: str) -> None:
    after, until = around(zone, CHANGES[zone][0])
    due = list(parse("0,30 2,3 * * *", zone).between(after, until))
    assert due == sorted(set(due))
    assert [one[6:11] for one in local(zone, due)][4:6] == ["03:00", "03:30"]


def test_newest_is_the_last_of_all_however_long_ago() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    for cron in ("0 3 * * 0", "0 0 1 * *", "0 0 1 6 *", "0 0 29 2 *", "*/10 * * * *"):
        rule = parse(cron)
        after = year - 3 * 366 * 86400
        assert rule.newest(after, year) == list(rule.between(after, year))[-1]
    assert parse("0 0 1 6 *").newest(year - 86400, year) is None


def test_a_day_of_the_month_and_a_weekday_are_either_of_them_as_in_cron() -> None:
    after = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    due = next_due("0 3 15 * 1", "UTC", after=after, count=4)
    assert [one[:5] for one in local("UTC", due)] == ["11-02", "11-09", "11-15", "11-16"]


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 0 * *", "0 24 * * *", "*/0 * * * *"])
def test_a_schedule_that_is_never_due_is_refused(text: str) -> None:
    with pytest.raises(BadSchedule, match="is not a schedule"):
        parse(text)
