"""A model's accuracy and evidence over time: every check of a short span, or the strongest of each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, RowMapping, Select, cast, func, select

from monitor.tables import checks

POINTS = 160  # of a chart: more are not told apart on a screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One check, or the newest of a part of the span; None where there was not enough data."""

    check: int
    at: float
    version: str
    share: float | None  # strongest evidence of the part, in logarithms: 1 is the page line
    log_e: float | None  # of this check
    log_page_line: float | None
    rows: int
    labels: int  # that the accuracy rests on
    accuracy: float | None
    lower: float | None  # the interval, None where only the labels of this check were counted
    upper: float | None


def read_course(connection: Connection, model: str, *, since: float, until: float) -> list[Point]:
    """At most POINTS points with since <= at <= until, oldest first."""
    span = checks.c.model == model, checks.c.at.between(since, until)
    share = checks.c.log_e / func.nullif(checks.c.log_page_line, 0.0)
    every = select(checks.c.id, share.label("share")).where(*span).order_by(checks.c.at).limit(POINTS + 1)
    found = connection.execute(every).all()
    if len(found) > POINTS:
        first = connection.scalar(select(func.min(checks.c.at)).where(*span)) or since
        width = max(until - first, 1.0) / (POINTS - 1)
        # A cast truncates on SQLite and rounds on PostgreSQL: both part the span evenly.
        part = cast((checks.c.at - first) / width, Integer)
        parted = select(func.max(checks.c.id), func.max(share)).where(*span).group_by(part)
        found = connection.execute(parted).all()
    strongest = {row[0]: row[1] for row in found}
    rows = connection.execute(_narrow(list(strongest))).mappings()
    return [_point(row, strongest[row["id"]]) for row in rows]


def _narrow(ids: Sequence[int]) -> Select[Any]:
    names = ("accuracy", "lower", "upper")
    return (
        select(
            checks.c.id, checks.c.at, checks.c.version, checks.c.log_e, checks.c.log_page_line, checks.c.rows,
            checks.c.labelled, checks.c.accuracy, checks.c.quality["labels"].as_integer().label("labels"),
            *(checks.c.quality[name].as_float().label(f"measured_{name}") for name in names),
        )
        .where(checks.c.id.in_(ids))
        .order_by(checks.c.at, checks.c.id)
    )  # fmt: skip


def _point(row: RowMapping, share: float | None) -> Point:
    measured = row["measured_accuracy"] is not None
    return Point(
        check=row["id"],
        at=row["at"],
        version=row["version"],
        share=share,
        log_e=row["log_e"],
        log_page_line=row["log_page_line"],
        rows=row["rows"],
        labels=row["labels"] if measured else row["labelled"],
        accuracy=row["measured_accuracy"] if measured else row["accuracy"],
        lower=row["measured_lower"],
        upper=row["measured_upper"],
    )
