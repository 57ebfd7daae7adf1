"""When a schedule is due: 5-field cron in a time zone, or "every 30s" counted from 1970."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from zoneinfo import ZoneInfo

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from monitor.errors import MonitorError
from monitor.settings import seconds

_DAY_S = 86400.0
_CHANGE = timedelta(hours=3)  # no zone changes its clocks by more, but for moving across the date line
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
    """Due at wall minutes of a time zone; one that the clocks repeat counts once, unless the hour is `*`.

    One that the clocks skip is due as much later as they skip. APScheduler counts the minutes as if no clock
    ever changed: across a change, its own arithmetic leaves out the midnight after.
    """

    trigger: OrTrigger  # in UTC, which stands for any wall
    zone: ZoneInfo
    repeats: bool

    def between(self, after: float, until: float) -> Iterator[float]:
        """Due times in (after, until], in order."""
        while after < until:
            end = min(after + _DAY_S, until)
            yield from self._span(after, end)
            wall = self._match(self._wall(end) - _CHANGE)
            if wall is None:
                return
            after = max(end, wall.timestamp() - 2 * _DAY_S)  # no zone is further than that from UTC

    def newest(self, after: float, until: float) -> float | None:
        """The last due time in (after, until]."""
        for days in (1, 8, 32, 367, 4 * 366 + 1):  # few steps back find it where each due time was missed
            since = max(after, until - days * _DAY_S)
            found = list(self.between(since, until))
            if found or since == after:
                return found[-1] if found else None
        return None

    def ever(self) -> bool:
        """Whether any time is due: 30 February never is."""
        return self._match(datetime.fromtimestamp(0.0, UTC)) is not None

    def _span(self, after: float, until: float) -> list[float]:
        first, last = self._wall(after), self._wall(until)
        if self._changes(after, until):
            first, last = first - _CHANGE, last + _CHANGE  # walls and times may be in another order
        due = set[float]()
        wall = self._match(first)
        while wall is not None and wall <= last:
            due.update(self._times(wall.replace(tzinfo=None)))
            wall = self._match(wall + timedelta(minutes=1))
        return sorted(at for at in due if after < at <= until)

    def _times(self, wall: datetime) -> Iterator[float]:
        """When the zone's clocks show `wall`, or would have."""
        for fold in (0, 1) if self.repeats else (0,):
            at = wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
            if not self.repeats or at.astimezone(self.zone).replace(tzinfo=None) == wall:
                yield at.timestamp()

    def _changes(self, after: float, until: float) -> bool:
        around = (after - _CHANGE.total_seconds(), until + _CHANGE.total_seconds())
        before, behind = (datetime.fromtimestamp(at, self.zone).utcoffset() for at in around)
        return before != behind

    def _wall(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, self.zone).replace(tzinfo=UTC)

    def _match(self, wall: datetime) -> datetime | None:
        """The first wall minute from this one on."""
        found: datetime | None = self.trigger.get_next_fire_time(None, wall)
        return found


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
        days = [{"day": day, "day_of_week": _weekdays(weekday)}]
        if not day.startswith("*") and not weekday.startswith("*"):  # cron: either of them, see crontab(5)
            days = [{"day": day}, {"day_of_week": _weekdays(weekday)}]
        triggers = [CronTrigger(minute=minute, hour=hour, month=month, timezone=UTC, **one) for one in days]
        rule = Cron(OrTrigger(triggers), zone, hour.startswith("*"))
        return rule if rule.ever() else _refuse("there is no such day")
    except (ValueError, KeyError) as problem:
        raise BadSchedule(text, problem) from problem


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
