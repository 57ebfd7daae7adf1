"""What the monitor's metrics say: read in a fixed number of queries, for any number of models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, ScalarSelect, Select, and_, func, or_, select

from exporter.database import clock
from exporter.tables import deployments, versions
from monitor.lease import LEADER
from monitor.slice_names import split_name
from monitor.story import powers
from monitor.tables import checks, deliveries, due_slots, episodes, evidence, jobs, leases

Labels = tuple[str, ...]
Sample = tuple[str, Labels, float | None]  # metric name without its prefix, label values, value
Found = RowMapping

STATES = ("no check yet", "not enough data", "ok", "drift", "failed")  # values 0, 1, …
OUTCOMES = ("promoted", "rejected", "failed", "cancelled")
JOB_STATES = ("queued", "running", "done", "failed", "cancelled")
KINDS = ("check", "retrain", "clean")
_BACK_ROWS = 200  # checks a model that are searched for its newest window and its newest labels
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every deployed model with its newest window, labels and requests, by id of the check."""

    models: list[Found]
    checks: dict[int, Found]

    def newest(self, which: str) -> Iterator[tuple[Found, Found]]:
        """(model, check) pairs; only checks of the version that serves."""
        for model in self.models:
            check = self.checks.get(model[which] or -1)
            if check is not None and check["version"] == model["champion"]:
                yield model, check


def read(connection: Connection) -> Iterator[Sample]:
    """Every sample; values are None where there is not enough data."""
    now = clock(connection)
    fleet = _fleet(connection)
    opened = connection.execute(select(episodes).where(episodes.c.state != "resolved")).mappings().all()
    yield from _models(fleet, {row["model"] for row in opened if row["state"] == "firing"})
    yield from _checks(fleet)
    yield from _evidence(connection, fleet)
    yield from _episodes(opened)
    yield from _notifications(connection, now)
    yield from _retrains(connection, fleet)
    yield from _schedule(connection, now)


def _fleet(connection: Connection) -> Fleet:
    floor = (connection.scalar(select(func.max(checks.c.id))) or 0) - _BACK_ROWS * (
        connection.scalar(select(func.count()).select_from(deployments)) or 0
    )
    own = (
        checks.c.model == deployments.c.model,
        checks.c.version == deployments.c.champion,
        checks.c.id > floor,
    )
    query = select(
        deployments.c.model,
        deployments.c.champion,
        deployments.c.revision,
        deployments.c.changed_at,
        versions.c.created_at,
        versions.c.manifest["metrics"]["accuracy"].as_float().label("holdout_accuracy"),
        _last(select(checks.c.id).where(*own, checks.c.first_seq.is_not(None)), checks.c.id).label("judged"),
        _last(select(checks.c.id).where(*own, checks.c.accuracy.is_not(None)), checks.c.id).label("labelled"),
        _last(select(checks.c.id).where(*own, checks.c.error_rate.is_not(None)), checks.c.id).label("asked"),
        _last(select(checks.c.id).where(*own, checks.c.report.is_not(None)), checks.c.id).label("report"),
        _last(
            select(jobs.c.id).where(jobs.c.model == deployments.c.model, jobs.c.finished_at.is_not(None)),
            jobs.c.id,
        ).label("job"),
        *_check_runs(),
    ).outerjoin(
        versions, (versions.c.model == deployments.c.model) & (versions.c.version == deployments.c.champion)
    )
    models = list(connection.execute(query.order_by(deployments.c.model)).mappings())
    ids = {row[which] for row in models for which in ("judged", "labelled", "asked")} - {None}
    narrow = select(
        checks.c.id, checks.c.version, checks.c.state, checks.c.rows, checks.c.labelled, checks.c.accuracy,
        checks.c.log_e, checks.c.log_page_line, checks.c.window_end_at, checks.c.at,
    )  # fmt: skip
    found = connection.execute(narrow.where(checks.c.id.in_(ids))).mappings()
    return Fleet(models, {row["id"]: row for row in found})


def _check_runs() -> tuple[Any, ...]:
    """When the schedule last finished a check of the model, and the distance of its newest due times."""
    own = due_slots.c.schedule == "check:" + deployments.c.model
    due = select(due_slots.c.due_at).where(own).correlate(deployments)
    newest = _last(due, due_slots.c.due_at)
    before = due.order_by(due_slots.c.due_at.desc()).limit(1).offset(1).scalar_subquery()
    done = _last(due.where(due_slots.c.state == "done"), due_slots.c.due_at)
    return done.label("check_run"), (newest - before).label("check_interval")


def _last(query: Select[Any], order: Any) -> ScalarSelect[Any]:
    return query.correlate(deployments).order_by(order.desc()).limit(1).scalar_subquery()


def _models(fleet: Fleet, firing: set[str]) -> Iterator[Sample]:
    states = {model["model"]: check["state"] for model, check in fleet.newest("judged")}
    for row in fleet.models:
        model, version = row["model"], row["champion"]
        state = "drift" if model in firing else states.get(model, "no check yet")
        yield "champion", (model, version), 1.0
        yield "model_state", (model,), float(STATES.index(state))
        yield "alerting", (model,), float(model in firing)
        yield "version_created_timestamp_seconds", (model, version), row["created_at"]
        yield "holdout_accuracy", (model, version), row["holdout_accuracy"]
        yield "deployments_total", (model,), float(row["revision"])
        yield "deployment_timestamp_seconds", (model,), row["changed_at"]
        yield "check_run_timestamp_seconds", (model,), row["check_run"]
        yield "check_interval_seconds", (model,), row["check_interval"]


def _checks(fleet: Fleet) -> Iterator[Sample]:
    for model, check in fleet.newest("judged"):
        labels = model["model"], model["champion"]
        yield "check_rows", labels, float(check["rows"])
        yield "check_delay_seconds", labels, _since(check["at"], check["window_end_at"])
        yield "evidence_powers", labels, powers(check["log_e"])
        yield "page_line_powers", labels, powers(check["log_page_line"])
    for model, check in fleet.newest("labelled"):
        labels = model["model"], model["champion"]
        yield "accuracy", labels, check["accuracy"]
        yield "check_labels", labels, float(check["labelled"])
    for model in fleet.models:
        yield "report_id", (model["model"], model["champion"]), model["report"]


def _evidence(connection: Connection, fleet: Fleet) -> Iterator[Sample]:
    """Per detector, from the newest window or, where that had none, from the newest labels or requests."""
    owner = {
        check["id"]: model["model"]
        for which in ("labelled", "asked", "judged")
        for model, check in fleet.newest(which)
    }
    columns = (
        evidence.c.check_id,
        evidence.c.detector,
        evidence.c.effect,
        evidence.c.p_value,
        evidence.c.log_e,
    )
    query = select(*columns).where(evidence.c.check_id.in_(owner), evidence.c.enough)
    told = {
        (owner[row.check_id], row.detector): row
        for row in connection.execute(query.order_by(evidence.c.check_id))
        if not split_name(row.detector)[1]  # clients name slices: no label is made of that
    }
    for labels, row in told.items():
        yield "detector_powers", labels, powers(row.log_e)
        yield "detector_effect", labels, row.effect
        yield "detector_p_value", labels, row.p_value


def _episodes(opened: Iterable[Found]) -> Iterator[Sample]:
    for row in opened:
        yield "episode_opened_timestamp_seconds", (row["model"], row["cause"], row["state"]), row["opened_at"]


def _notifications(connection: Connection, now: float) -> Iterator[Sample]:
    given_up = and_(deliveries.c.state == "failed", deliveries.c.finished_at > now - _DAY_S)
    late = or_(deliveries.c.state.in_(("waiting", "sending")), given_up)
    refused = and_(late, deliveries.c.error.is_not(None))
    undelivered = select(func.count(), func.sum(deliveries.c.attempt)).where(refused)
    number, tries = connection.execute(undelivered).one()
    yield "notifications_undelivered", (), float(number)
    yield "notification_tries", (), float(tries or 0)


def _retrains(connection: Connection, fleet: Fleet) -> Iterator[Sample]:
    promoted = jobs.c.verdict["promote"].as_boolean()
    grouped = select(jobs.c.model, jobs.c.state, promoted.label("promoted"), func.count().label("jobs"))
    counts: dict[Labels, int] = {}
    active = dict.fromkeys((row["model"] for row in fleet.models), 0)
    states = dict.fromkeys(JOB_STATES, 0)
    for row in connection.execute(grouped.group_by(jobs.c.model, jobs.c.state, promoted)):
        states[row.state] += row.jobs
        if row.state in ("queued", "running"):
            active[row.model] = active.get(row.model, 0) + row.jobs
        else:
            outcome = ("promoted" if row.promoted else "rejected") if row.state == "done" else row.state
            counts[row.model, outcome] = counts.get((row.model, outcome), 0) + row.jobs
    for model, running in active.items():
        yield "jobs_active", (model,), float(running)
        for outcome in OUTCOMES:
            yield "retrains_total", (model, outcome), float(counts.get((model, outcome), 0))
    for state, number in states.items():
        yield "jobs", (state,), float(number)
    yield from _last_retrains(connection, fleet)


def _last_retrains(connection: Connection, fleet: Fleet) -> Iterator[Sample]:
    ids = {row["job"] for row in fleet.models} - {None}
    query = select(jobs, episodes.c.opened_at).outerjoin(episodes, episodes.c.id == jobs.c.episode_id)
    for row in connection.execute(query.where(jobs.c.id.in_(ids))).mappings():
        labels, verdict = (row["model"],), row["verdict"] or {}
        recent = verdict.get("numbers", {}).get("recent", {})
        yield "retrain_seconds", labels, _since(row["finished_at"], row["created_at"])
        yield "verdict_gain", labels, recent.get("gain")
        yield "verdict_gain_lower", labels, recent.get("gain_lower_95")
        yield "verdict_labels", labels, verdict.get("labels_used")
        if verdict.get("promote"):
            yield "drift_to_promotion_seconds", labels, _since(row["finished_at"], row["opened_at"])


def _schedule(connection: Connection, now: float) -> Iterator[Sample]:
    waiting = select(func.count(), func.min(due_slots.c.due_at)).where(due_slots.c.state == "queued")
    slots, oldest = connection.execute(waiting).one()
    yield "slots_waiting", (), float(slots)
    yield "slot_lag_seconds", (), 0.0 if oldest is None else max(0.0, now - oldest)
    kind = func.substr(due_slots.c.schedule, 1, 5)
    failed = select(kind, func.count()).where(
        due_slots.c.state == "failed", due_slots.c.due_at > now - _DAY_S
    )
    by_kind: dict[str, int] = dict(connection.execute(failed.group_by(kind)).all())
    for name in KINDS:
        yield "slots_failed", (name,), float(by_kind.get(name[:5], 0))
    lease = connection.execute(select(leases).where(leases.c.name == LEADER)).mappings().first()
    yield "leader", (), float(lease is not None and lease["expires_at"] > now)
    yield "leader_changes_total", (), float(lease["epoch"]) if lease else 0.0


def _since(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else max(0.0, later - earlier)
