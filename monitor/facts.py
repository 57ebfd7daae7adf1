"""What a check reads and how it judges it; only blocks, seasons and reports are written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection, Engine

from exporter.blocks import catch_up
from exporter.sketches import slice_by
from monitor import history
from monitor.evidence import Evidence, bettors, detectors, judge_window, open_wealth
from monitor.explain.sealed import with_texts
from monitor.pager import Wealth
from monitor.reference import (
    Reference,
    SliceReference,
    freeze_season,
    read_live_reference,
    read_slice_references,
)
from monitor.report import ReportRequest, ReportResult, run_report
from monitor.settings import ModelSettings, MonitorSettings
from monitor.slices import judge_slices, open_slices
from monitor.tallies import Tally, read_answers, read_before, read_outcomes, read_period, read_tally
from monitor.windows import read_labelled, read_reference, read_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Read before the transaction; it starts only where `cursor` still stands."""

    model: str
    version: str
    cursor: history.Cursor
    alpha: float
    fresh_pager: bool
    held: dict[str, Wealth]
    reference: Reference
    window: Tally | None
    recent: Tally | None  # what severity looks back on, None: the window
    labelled: Tally | None
    outcomes: Tally | None = None  # of requests
    slices: Mapping[str, SliceReference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    evidence: tuple[Evidence, ...]
    held: dict[str, Wealth]
    report: ReportResult | None
    grown: tuple[SliceReference, ...] = ()  # references of slices that took the window's rows


def prepare_facts(db: Engine, model: str, version: str, settings: ModelSettings, now: float) -> None:
    """Count what the loader did not, and freeze the first season once it is complete."""
    slice_by(db, model, version, settings.slices)
    catch_up(db, model, version)
    freeze_season(db, model, version, settings.season, now=now)


def read_facts(db: Engine, model: str, version: str, settings: ModelSettings, now: float) -> Facts | None:
    """The next window and the labels that came; None with nothing to judge. Raises NoReferenceError."""
    with db.connect() as connection:
        cursor = history.read_cursor(connection, model, version)
        reference = replace(
            read_live_reference(connection, model, version, settings.season), error_rate=settings.error_rate
        )
        window = _next_window(connection, reference, settings, max(cursor.seq, reference.last_seq))
        labelled = read_answers(connection, model, version, after_label_seq=cursor.label_seq)
        outcomes = read_outcomes(connection, model, version, after_hour=cursor.outcome_hour, now=now)
        if window is None and max(labelled.rows, outcomes.rows) < settings.min_window:
            return None
        slices = read_slice_references(connection, reference) if settings.slices else {}
        alpha, held = _pager(connection, reference, slices, settings)
        budget = settings.false_pages_per_year
        return Facts(
            model=model,
            version=version,
            cursor=cursor,
            alpha=history.next_alpha(connection, model, budget, now) if alpha is None else alpha,
            fresh_pager=alpha is None,
            held=held,
            reference=reference,
            window=window,
            recent=_recent(connection, reference, settings, window),
            labelled=labelled if labelled.rows >= settings.min_window else None,
            outcomes=outcomes if outcomes.rows >= settings.min_window else None,
            slices=slices,
        )


def judge_facts(facts: Facts, settings: ModelSettings, report: ReportResult | None) -> Judged:
    """Let every detector judge the rows that it reads, and bet."""
    found: list[Evidence] = []
    held = dict(facts.held)
    given = {"predictions": facts.window, "labels": facts.labelled, "requests": facts.outcomes}
    for detector in detectors():
        if not facts.reference.counts(detector.series):
            continue
        rows = given[detector.reads]
        if rows is None:
            if facts.window is not None:
                found.append(Evidence(detector=detector.name, rows=0, enough=False))
            continue
        one, wealth = judge_window(
            detector,
            rows,
            facts.reference,
            facts.held.get(detector.name),
            minimum=settings.min_window,
            recent=facts.recent if detector.reads == "predictions" else None,
        )
        if wealth is not None:
            held[detector.name] = wealth
        found.append(one)
    if facts.window is None:
        return Judged(evidence=tuple(found), held=held, report=report)
    sliced = judge_slices(facts.window, facts.reference, facts.slices, facts.held)
    return Judged(
        evidence=(*found, *sliced.evidence), held=held | sliced.held, report=report, grown=tuple(sliced.grown)
    )


def report_facts(
    db: Engine, home: Path, facts: Facts, settings: ModelSettings, monitor: MonitorSettings
) -> ReportResult | None:
    """The Evidently report of a window, by a child process; it takes seconds. None without a window.

    It sees a sample of at most about `evidently_rows` rows, whatever the window.
    """
    window, model, version, rows = facts.window, facts.model, facts.version, monitor.evidently_rows
    if window is None or not monitor.evidently:
        return None
    name = f"{model}-{version}-{window.last_seq}"
    folder = home / "reports"
    labels_after = facts.cursor.label_seq
    return run_report(
        ReportRequest(
            reference=with_texts(db, read_reference(db, model, version)),
            current=read_sample(
                db, model, version, first_seq=window.first_seq, last_seq=window.last_seq, rows=rows, seed=0
            ),
            labelled=read_labelled(db, model, version, after_label_seq=labels_after, rows=rows)
            if facts.labelled
            else None,
            html=folder / f"{name}.html",
            json=folder / f"{name}.json",
            rows=rows,
            thresholds={str(metric): limit for metric, limit in settings.thresholds.items()},
            workspace=home / monitor.evidently_workspace if monitor.evidently_workspace else None,
            budget_mb=monitor.report_budget_mb,
        )
    )


def _next_window(
    connection: Connection, reference: Reference, settings: ModelSettings, after_seq: int
) -> Tally | None:
    span = reference.span(after_seq, sliced=bool(settings.slices))
    if settings.period is not None:
        return read_period(connection, span, period=settings.period)
    return read_tally(connection, span, rows=settings.window)


def _recent(
    connection: Connection, reference: Reference, settings: ModelSettings, window: Tally | None
) -> Tally | None:
    if window is None or settings.rolling == 1:
        return None
    rows = settings.rolling * window.rows
    return read_before(connection, reference.span(0), until_seq=window.last_seq, rows=rows)


def _pager(
    connection: Connection,
    reference: Reference,
    slices: Mapping[str, SliceReference],
    settings: ModelSettings,
) -> tuple[float | None, dict[str, Wealth]]:
    """The open pager's budget and what its bettors hold; None and e = 1 where a new one has to begin.

    Wealth against other bins (another season, say) or with other slices, which part the budget in another
    way, cannot go on: its pager ends, and the next one spends.
    """
    model, version = reference.model, reference.version
    known = [one for one in bettors() if reference.counts(one.series)]
    ready = [one for one in known if one.reads != "predictions" or reference.complete]
    opened = {one.name: open_wealth(one, reference) for one in ready} | open_slices(slices)
    alpha = history.open_pager(connection, model, version, settings.slices)
    held = {} if alpha is None else history.read_wealth(connection, model, version)
    if any(one.m != opened[name].m for name, one in held.items() if name in opened):
        return None, opened
    return alpha, opened | {name: one for name, one in held.items() if name in opened}
