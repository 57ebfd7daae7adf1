"""When a schedule is due: 5-field cron in a time zone, or "every 30s" counted from 1970."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from monitor.errors import MonitorError
from monitor.settings import seconds

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class BadSchedule(MonitorError):
    """The text is neither cron nor "every …"."""

    def __init__(self, text: str, problem: object) -> None:
        super().__init__(
            f"{text!r} is not a schedule ({problem}). Write five cron fields ('0 3 * * 0') or 'every 30s'."
        )


@dataclass(frozen=True, slots=True)
class Every:
    """Due at each multiple of `period_s` since 1970, so that all processes agree."""

    period_s: float

    def between(self, after: float, until: float) -> Iterator[float]:
        """Due times in (after, until], in order."""
        first, last = math.floor(after / self.period_s) + 1, math.floor(until / self.period_s)
        return (number * self.period_s for number in range(first, last + 1))

    def newest(self, after: float, until: float) -> float | None:
        """The last due time in (after, until]."""
        last = math.floor(until / self.period_s) * self.period_s
        return last if last > after else None


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at wall minutes of a time zone; one that the clocks repeat counts once, unless the hour is `*`."""

    trigger: CronTrigger
    repeats: bool

    def between(self, after: float, until: float) -> Iterator[float]:
        """Due times in (after, until], in order."""
        at = self._next(after)
        while at is not None and at.timestamp() <= until:
            if self.repeats or at.fold == 0:
                yield at.timestamp()
            at = self._next(at.timestamp())

    def newest(self, after: float, until: float) -> float | None:
        """The last due time in (after, until]."""
        newest = None
        for newest in self.between(after, until):  # noqa: B007  # the last one is wanted
            pass
        return newest

    def _next(self, after: float) -> datetime | None:
        just_after = datetime.fromtimestamp(math.floor(after) + 1, UTC)
        at: datetime | None = self.trigger.get_next_fire_time(None, just_after)
        return at


Rule = Every | Cron


def parse(text: str, time_zone: str = "UTC") -> Rule:
    """Read a schedule; BadSchedule names what is wrong.

    >>> monday = 1_767_571_200.0  # 2026-01-05 00:00 UTC
    >>> [(due - monday) / 3600 for due in parse("0 3 * * 0").between(monday, monday + 7 * 86400)]
    [147.0]
    >>> list(parse("every 30s").between(60.0, 120.0))
    [90.0, 120.0]
    """
    try:
        if text.startswith("every "):
            period = seconds(text.removeprefix("every "))
            return Every(period) if period > 0 else _refuse("the period must be longer than nothing")
        minute, hour, day, month, weekday = text.split()
        zone = ZoneInfo(time_zone)
        trigger = CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=zone
        )
    except (ValueError, KeyError) as problem:
        raise BadSchedule(text, problem) from problem
    return Cron(trigger, hour.startswith("*"))


def next_due(text: str, time_zone: str, *, after: float, count: int = 1) -> list[float]:
    """The next `count` due times later than `after`."""
    rule = parse(text, time_zone)
    times = rule.between(after, after + 4 * 366 * 86400.0)
    return [due for due, _ in zip(times, range(count), strict=False)]


def _refuse(problem: str) -> NoReturn:
    raise ValueError(problem)


def _weekdays(field: str) -> str:
    """Weekdays by name: cron counts them from Sunday = 0 (or 7), APScheduler 3 from Monday = 0.

    >>> _weekdays("0"), _weekdays("1-5"), _weekdays("6,7"), _weekdays("*/2"), _weekdays("5-7")
    ('sun', 'mon,tue,wed,thu,fri', 'sat,sun', 'sun,tue,thu,sat', 'fri,sat,sun')
    """
    if field == "*":
        return "*"
    return ",".join(name for part in field.lower().split(",") for name in _days_of(part))


def _days_of(part: str) -> list[str]:
    span, _, step = part.partition("/")
    if span == "*":
        first, last = 0, 6
    else:
        begin, _, end = span.partition("-")
        first = _day(begin)
        last = _day(end) if end else (6 if step else first)
    if last < first:
        last += 7
    return [_DAYS[number % 7] for number in range(first, last + 1, int(step or 1))]


def _day(text: str) -> int:
    number = _DAYS.index(text) if text in _DAYS else int(text)
    return number if 0 <= number <= 7 else _refuse(f"there is no weekday {number}")
