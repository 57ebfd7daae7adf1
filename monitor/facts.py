"""What a check reads and how it judges it; nothing is written here but the Evidently report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from monitor import history
from monitor.evidence import Evidence, detectors, judge_window, open_wealth
from monitor.pager import Wealth
from monitor.report import ReportRequest, ReportResult, run_report
from monitor.retention import prune
from monitor.settings import ModelSettings, MonitorSettings
from monitor.windows import Window, read_labelled, read_reference, read_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Read before the transaction; it starts only where `cursor` still stands."""

    model: str
    version: str
    cursor: history.Cursor
    alpha: float
    fresh_pager: bool
    held: dict[str, Wealth]
    reference: Window
    window: Window | None
    labelled: Window | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    evidence: tuple[Evidence, ...]
    held: dict[str, Wealth]
    report: ReportResult | None


def read_facts(db: Engine, model: str, version: str, settings: ModelSettings, now: float) -> Facts | None:
    with db.connect() as connection:
        cursor = history.read_cursor(connection, model, version)
        alpha = history.open_pager(connection, model, version)
        held = {} if alpha is None else history.read_wealth(connection, model, version)
        budget = settings.false_pages_per_year
        spend = history.next_alpha(connection, model, budget, now) if alpha is None else alpha
    window = read_window(db, model, version, after_seq=cursor.seq, rows=settings.window)
    labelled = read_labelled(db, model, version, after_label_seq=cursor.label_seq)
    enough = labelled.rows >= settings.min_window
    if window is None and not enough:
        return None
    reference = read_reference(db, model, version)
    return Facts(
        model=model,
        version=version,
        cursor=cursor,
        alpha=spend,
        fresh_pager=alpha is None,
        held={one.name: held.get(one.name) or open_wealth(one, reference) for one in detectors()},
        reference=reference,
        window=window,
        labelled=labelled if enough else None,
    )


def judge_facts(facts: Facts, settings: ModelSettings, report: ReportResult | None) -> Judged:
    """Let every detector judge the rows that it reads, and bet."""
    found: list[Evidence] = []
    held = dict(facts.held)
    for detector in detectors():
        rows = facts.window if detector.reads == "predictions" else facts.labelled
        if rows is None:
            if facts.window is not None:
                found.append(Evidence(detector=detector.name, rows=0, enough=False))
            continue
        one, held[detector.name] = judge_window(
            detector, rows, facts.reference, facts.held[detector.name], minimum=settings.min_window
        )
        found.append(one)
    return Judged(evidence=tuple(found), held=held, report=report)


def report_facts(
    home: Path, facts: Facts, settings: ModelSettings, monitor: MonitorSettings
) -> ReportResult | None:
    """The Evidently report of a window, by a child process; it takes seconds. None without a window."""
    window = facts.window
    if window is None or not monitor.evidently:
        return None
    name = f"{facts.model}-{facts.version}-{window.last_seq}"
    folder = home / "reports"
    prune(folder, monitor.report_budget_mb)
    return run_report(
        ReportRequest(
            reference=facts.reference,
            current=window,
            labelled=facts.labelled,
            html=folder / f"{name}.html",
            json=folder / f"{name}.json",
            rows=monitor.evidently_rows,
            thresholds={str(name): limit for name, limit in settings.thresholds.items()},
        )
    )
