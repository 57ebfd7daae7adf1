"""One check: read what is new, judge it, bet, decide, and write all of it in one transaction.

A check that dies leaves nothing but a report that no row names; the next one reads the same rows again.
Where no threshold has to decide, the Evidently report is made afterwards: a page does not wait for it.
Where two monitors check the same rows at once, the second finds the cursor moved and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from exporter import registry
from exporter.database import lock_order
from exporter.tables import deployments
from monitor import history, policy
from monitor.asking import DECISIONS, ask_retrain, database_now, limits, queue, read_rung, situate
from monitor.causes import drop_unasked, observe_causes
from monitor.evidence import Evidence
from monitor.facts import Facts, Judged, judge_facts, prepare_facts, read_facts, report_facts
from monitor.follow_up import follow_up
from monitor.label_counts import keep_count
from monitor.pager import page_line
from monitor.reference import write_slice_references
from monitor.report import ReportResult
from monitor.report_rows import write_metrics
from monitor.settings import ModelSettings, MonitorSettings
from monitor.tables import CheckState, checks, evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One window, judged and written."""

    id: int
    state: CheckState
    rows: int
    labelled: int
    accuracy: float | None
    start_at: float | None
    end_at: float | None
    evidence: tuple[Evidence, ...]
    log_e: float | None
    log_page_line: float
    paged: bool
    decision: policy.Decision
    report: str | None
    job: int | None
    quality: dict[str, Any] | None = None  # quality.Quality, of a call's newest check
    explanation: dict[str, Any] | None = None  # explain.Explanation, of the same where it pages


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one call of `run_check` did; `checks` is empty where nothing was new."""

    model: str
    version: str | None  # None: nobody serves this model
    checks: tuple[Checked, ...] = ()
    job: int | None = None  # the retrain that was queued, by a window or by reconsidering an open page

    @property
    def paged(self) -> bool:
        """Whether a window of this call was over the page line."""
        return any(checked.paged for checked in self.checks)


def run_check(
    db: Engine,
    home: Path,
    model: str,
    settings: ModelSettings,
    monitor: MonitorSettings,
    *,
    now: float | None = None,
) -> CheckResult:
    """Judge every complete window since the last check, in order, and the labels that arrived.

    `now` is the time of decisions, by default the database's. Raises NoReferenceError.
    """
    version = registry.champion(db, model)
    if version is None:
        return CheckResult(model=model, version=None)
    now = database_now(db) if now is None else now
    prepare_facts(db, model, version, settings, now)
    done = _judge_all(db, home, model, version, settings, monitor, now)
    job = next((checked.job for checked in done if checked.job is not None), None)
    if not done:
        job = ask_retrain(db, model, settings, monitor, asked="check", now=now)[1]
    return CheckResult(model=model, version=version, checks=tuple(done), job=job)


def _judge_all(
    db: Engine,
    home: Path,
    model: str,
    version: str,
    settings: ModelSettings,
    monitor: MonitorSettings,
    now: float,
) -> list[Checked]:
    """Write a check for every window; what takes longer follows for the newest one only."""
    done: list[Checked] = []
    newest: tuple[int, Facts] | None = None
    while (facts := read_facts(db, model, version, settings, now)) is not None:
        report = report_facts(db, home, facts, settings, monitor) if settings.thresholds else None
        checked = _write(db, facts, judge_facts(facts, settings, report), settings, monitor, now)
        if checked is None:  # another monitor was faster
            break
        if newest is None or facts.window is not None:
            newest = len(done), facts
        done.append(checked)
    if newest is not None:
        number, facts = newest
        one = done[number]
        labelled = any(checked.labelled for checked in done)
        more = follow_up(
            db, home, one.id, facts, settings, monitor, paged=one.paged, labelled=labelled, now=now
        )
        done[number] = replace(one, **more)
    return done


def _write(
    db: Engine, facts: Facts, judged: Judged, settings: ModelSettings, monitor: MonitorSettings, now: float
) -> Checked | None:
    model, version = facts.model, facts.version
    retrains = history.read_retrains(db, model, now)
    with db.begin() as connection:
        lock_order(connection, DECISIONS)
        if history.read_cursor(connection, model, version) != facts.cursor:
            return None
        if not _is_current(connection, facts):  # promoted, rolled back or settled while facts were read
            return None
        if facts.fresh_pager:
            history.begin_pager(connection, model, version, facts.alpha, now, settings.slices)
        drop_unasked(connection, model, settings.thresholds, now)
        history.write_wealth(connection, model, version, judged.held, now)
        write_slice_references(connection, judged.grown, now)
        situation = replace(
            situate(connection, model, version, "check", retrains, now, window=facts.window),
            log_es={name: wealth.log_e for name, wealth in judged.held.items()},
            slice_keys=len(settings.slices),
            log_page_line=page_line(facts.alpha),
            exceeded=judged.report.exceeded if judged.report else (),
        )
        rung = read_rung(connection, model, version, settings)
        decision = policy.decide(situation, limits(settings, rung))
        checked = _insert(connection, facts, judged, situation, decision, now)
        window = facts.window
        onset = window.first_seq if window else facts.cursor.seq
        observe_causes(
            connection,
            model,
            version,
            judged.evidence,
            situation,
            decision,
            looked_at=_looked_at(judged.report),
            onset=history.read_onset(connection, model, version) or onset,
            now=now,
        )
        keep_count(connection, model, version)
        if decision.action == "retrain":
            job = queue(connection, model, version, decision, monitor, now, None)
            checked = replace(checked, job=job)
    return checked


def _is_current(connection: Connection, facts: Facts) -> bool:
    serves = select(deployments.c.champion).where(deployments.c.model == facts.model)
    bets_on = facts.fresh_pager or history.open_pager(connection, facts.model, facts.version) is not None
    return connection.scalar(serves) == facts.version and bets_on


def _insert(
    connection: Connection,
    facts: Facts,
    judged: Judged,
    situation: policy.Situation,
    decision: policy.Decision,
    now: float,
) -> Checked:
    window, labelled, outcomes, report = facts.window, facts.labelled, facts.outcomes, judged.report
    row: dict[str, Any] = {
        "state": _state(judged.evidence, situation, decision),
        "rows": window.rows if window else 0,
        "labelled": labelled.rows if labelled else 0,
        "accuracy": labelled.accuracy if labelled else None,
        "log_e": situation.log_e,
        "log_page_line": situation.log_page_line,
        "paged": decision.page,
        "report": report.html.name if report and report.html else None,
    }
    statement = insert(checks).values(
        model=facts.model,
        version=facts.version,
        first_seq=window.first_seq if window else None,
        last_seq=window.last_seq if window else facts.cursor.seq,
        last_label_seq=labelled.last_seq if labelled else facts.cursor.label_seq,
        window_start_at=window.start_at if window else None,
        window_end_at=window.end_at if window else None,
        last_outcome_hour=outcomes.last_seq if outcomes else facts.cursor.outcome_hour,
        error_rate=outcomes.error_rate if outcomes else None,
        decision=asdict(decision),
        evidently=report.to_json() if report else None,
        at=now,
        **row,
    )
    id_ = connection.execute(statement.returning(checks.c.id)).scalar_one()
    rows = [asdict(one) | {"check_id": id_} for one in judged.evidence]
    if rows:
        connection.execute(insert(evidence), rows)
    if report:
        write_metrics(connection, id_, report)
    return Checked(
        id=id_,
        start_at=window.start_at if window else None,
        end_at=window.end_at if window else None,
        evidence=judged.evidence,
        decision=decision,
        job=None,
        **row,
    )


def _looked_at(report: ReportResult | None) -> list[str]:
    return [metric["name"] for metric in report.metrics if metric["configured"]] if report else []


def _state(found: Sequence[Evidence], situation: policy.Situation, decision: policy.Decision) -> CheckState:
    if decision.page or situation.exceeded:
        return "drift"
    return "ok" if any(one.enough for one in found) else "not enough data"
