"""What follows a check and takes longer than it: a report, an explanation, accuracy with an interval.

A page does not wait for any of them, and losing one loses nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Engine, or_, select, update

from monitor import history
from monitor.assessment import assess
from monitor.explain import explain
from monitor.explain.page import SUFFIX, write_page
from monitor.explain.store import write_explanation
from monitor.facts import Facts, report_facts
from monitor.report_rows import write_metrics
from monitor.settings import ModelSettings, MonitorSettings
from monitor.tables import checks

_log = structlog.get_logger("trueup.check")


def follow_up(
    db: Engine,
    home: Path,
    check: int,
    facts: Facts,
    settings: ModelSettings,
    monitor: MonitorSettings,
    *,
    paged: bool,
    labelled: bool,
    now: float,
) -> dict[str, Any]:
    """Find out more of one written check; returns what its `Checked` gains. `labelled`: labels have come."""
    found: dict[str, Any] = {}
    if not _is_due(db, check, facts, settings, monitor, paged=paged, now=now):
        return found
    parts: dict[str, Callable[[], Any]] = {}
    if facts.window is not None and paged:  # first: the message of the page waits for it, if not for long
        parts["explanation"] = lambda: _explain(db, home, check, facts, now)
    if labelled:
        parts["quality"] = lambda: asdict(
            assess(db, check, facts.model, facts.version, window=settings.window)
        )
    if facts.window is not None and not settings.thresholds:  # otherwise the report had to decide
        parts["report"] = lambda: _report(db, home, check, facts, settings, monitor)
    for name, find in parts.items():
        try:
            found[name] = find()
        except Exception:  # the check is written and decided; what is lost here is said and nothing else
            _log.exception("follow_up_failed", model=facts.model, part=name)
    return found


def _is_due(
    db: Engine,
    check: int,
    facts: Facts,
    settings: ModelSettings,
    monitor: MonitorSettings,
    *,
    paged: bool,
    now: float,
) -> bool:
    """Whether what followed the last check of this version is old, or older than the page."""
    followed: ColumnElement[bool] = checks.c.quality.is_not(None)
    if not settings.thresholds:  # with thresholds every check has a report
        followed = or_(followed, checks.c.report.is_not(None))
    last = (
        select(checks.c.at, checks.c.paged)
        .where(checks.c.model == facts.model, checks.c.version == facts.version)
        .where(checks.c.id < check, followed)
        .order_by(checks.c.id.desc())
        .limit(1)
    )
    with db.connect() as connection:
        found = connection.execute(last).first()
    return found is None or now - found.at >= monitor.report_every or (paged and not found.paged)


def _report(
    db: Engine, home: Path, check: int, facts: Facts, settings: ModelSettings, monitor: MonitorSettings
) -> str | None:
    report = report_facts(db, home, facts, settings, monitor)
    if report is None:
        return None
    name = report.html.name if report.html else None
    with db.begin() as connection:
        row = update(checks).where(checks.c.id == check)
        connection.execute(row.values(report=name, evidently=report.to_json()))
        write_metrics(connection, check, report)
    return name


def _explain(db: Engine, home: Path, check: int, facts: Facts, now: float) -> dict[str, Any]:
    window, model, version = facts.window, facts.model, facts.version
    assert window is not None
    with db.connect() as connection:
        onset = history.read_onset(connection, model, version) or window.first_seq
    found = explain(db, home, model, version, since_seq=onset, until_seq=window.last_seq)
    try:
        write_page(found, home / "reports" / f"{model}-{version}-{window.last_seq}{SUFFIX}")
    except OSError as error:
        _log.warning("explanation_not_written", model=model, problem=str(error))
    with db.begin() as connection:
        write_explanation(connection, check, found, now=now)
    return found.to_json()
