"""What a notice says, as plain data: what moved, how sure that is, what happens next, and where to look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from exporter.tables import trials, versions
from monitor.episodes import Episode, list_episodes
from monitor.evidence import weighted
from monitor.notices import Notice
from monitor.settings import MonitorSettings
from monitor.slice_names import slice_keys
from monitor.tables import checks, episodes, evidence, explanations, jobs

WINDOWS = 60  # checks in the picture
_WORDS, _SLICES, _EXAMPLES, _CLASSES, _EFFECTS = 6, 3, 3, 3, 3

_UNPLANNED = "No retrain is planned: a person decides (`trueup retrain`)."
_STATES = {"done": "ended", "failed": "failed", "cancelled": "was cancelled"}

Facts = dict[str, Any]


def read_facts(connection: Connection, notice: Notice, settings: MonitorSettings) -> Facts:
    """All of it, JSON-able; parts that are not known (yet) are None or empty."""
    grown = _episodes(connection, notice)
    past = _checks(connection, notice)
    judged = next((check for check in past if check["log_e"] is not None), None)
    return {
        "model": notice.model,
        "version": notice.version,
        "kind": notice.kind,
        "causes": notice.causes,
        "since": min((one.fired_at or one.opened_at for one in grown), default=notice.created_at),
        "reasons": _resolutions(grown) if notice.kind == "resolved" else _reasons(past),
        "moved": _moved(connection, notice, texts=settings.notify_texts),
        "sure": _sure(connection, notice, judged, past),
        "next": [] if notice.kind == "resolved" else _next(connection, notice.model, past),
        "links": _links(settings, notice.model, past),
        "series": [_point(check) for check in reversed(past)],
    }


def plain_facts(notice: Notice, settings: MonitorSettings) -> Facts:
    """The same without anything that has to be read."""
    return {
        "model": notice.model,
        "version": notice.version,
        "kind": notice.kind,
        "causes": notice.causes,
        "since": notice.created_at,
        "reasons": [],
        "moved": None,
        "sure": {},
        "next": [],
        "links": _links(settings, notice.model, []),
        "series": [],
    }


def explained(connection: Connection, notice: Notice) -> bool:
    """Whether there is an explanation of the check that fired, or of a later one."""
    newer = explanations.c.at >= notice.created_at
    query = select(explanations.c.check_id).where(explanations.c.model == notice.model, newer)
    return connection.execute(query.limit(1)).first() is not None


def _episodes(connection: Connection, notice: Notice) -> list[Episode]:
    """Those of this change: fired, and not over before its first."""
    first = connection.scalar(select(episodes.c.fired_at).where(episodes.c.id == notice.group_id))
    return [
        one
        for one in list_episodes(connection, notice.model)
        if one.fired_at is not None
        and one.fired_at <= notice.created_at
        and (one.resolved_at is None or one.resolved_at >= (first or 0.0))
    ]


def _checks(connection: Connection, notice: Notice) -> list[Mapping[str, Any]]:
    """The newest checks up to the notice's moment, newest first."""
    wanted = (checks.c.model == notice.model, checks.c.at <= notice.created_at)
    query = select(checks).where(*wanted).order_by(checks.c.id.desc()).limit(WINDOWS)
    return [dict(row) for row in connection.execute(query).mappings()]


def _reasons(past: list[Mapping[str, Any]]) -> list[str]:
    decision = past[0]["decision"] if past else None
    return [str(one) for one in decision["reasons"][:1]] if decision else []


def _resolutions(grown: Iterable[Episode]) -> list[str]:
    told = (str(one.detail.get("resolution", "it is quiet again")) for one in grown if one.resolved_at)
    return list(dict.fromkeys(told))


def _moved(connection: Connection, notice: Notice, *, texts: bool) -> Facts | None:
    """The short form of the version's newest explanation; without `texts` no word of a user is in it."""
    query = (
        select(explanations.c.content)
        .where(explanations.c.model == notice.model, explanations.c.version == notice.version)
        .order_by(explanations.c.check_id.desc())
        .limit(1)
    )
    found = connection.scalar(query)
    if found is None or notice.kind == "resolved":
        return None
    return {
        "share": found["moved_share"],
        "rising": [one["word"] for one in found["words"]["rising"][:_WORDS]] if texts else [],
        "falling": [one["word"] for one in found["words"]["falling"][:_WORDS]] if texts else [],
        "slices": [
            {name: one[name] for name in ("key", "value", "what", "before", "now")}
            for one in found["slices"][:_SLICES]
        ],
        "classes": [
            {name: one[name] for name in ("label", "share", "reference_share")}
            for one in found["classes"][:_CLASSES]
        ],
        "examples": [_example(one) for one in found["examples"][:_EXAMPLES] if one["text"]] if texts else [],
    }


def _example(found: Mapping[str, Any]) -> Facts:
    nearest = next(iter(found["nearest"]), None) or {"text": None, "label": None}
    return {
        "text": found["text"],
        "label": found["label"],
        "nearest_text": nearest["text"],
        "nearest_label": nearest["label"],
    }


def _sure(
    connection: Connection, notice: Notice, judged: Mapping[str, Any] | None, past: list[Mapping[str, Any]]
) -> Facts:
    manifest = connection.scalar(
        select(versions.c.manifest).where(
            versions.c.model == notice.model, versions.c.version == notice.version
        )
    )
    measured = (check["quality"] for check in past if check["version"] == notice.version)
    return {
        "log_e": judged and judged["log_e"],
        "log_page_line": judged and judged["log_page_line"],
        "effects": _effects(connection, judged["id"]) if judged else [],
        "quality": next((one for one in measured if one), None),
        "holdout_accuracy": (manifest or {}).get("metrics", {}).get("accuracy"),
    }


def _effects(connection: Connection, check: int) -> list[Facts]:
    """The detectors that won most, the strongest first."""
    query = select(evidence).where(evidence.c.check_id == check, evidence.c.enough)
    rows = [row for row in connection.execute(query).mappings() if row["log_e"] is not None]
    keys = len(slice_keys(row["detector"] for row in rows))
    rows.sort(key=lambda row: -weighted(row["detector"], row["log_e"], keys))
    return [
        {
            "detector": row["detector"],
            "effect": row["effect"],
            "measure": row["detail"].get("effect"),
            "p_value": row["p_value"],
        }
        for row in rows[:_EFFECTS]
        if row["log_e"] > 0
    ]


def _next(connection: Connection, model: str, past: list[Mapping[str, Any]]) -> list[str]:
    """What the monitor does by itself, or waits for."""
    query = select(jobs).where(jobs.c.model == model, jobs.c.state.in_(("queued", "running")))
    job = connection.execute(query.order_by(jobs.c.id.desc()).limit(1)).mappings().first()
    if job is not None:
        stage = f", {job['progress']['stage']}" if job["progress"].get("stage") else ""
        return [f"Retrain {job['state']}: job {job['id']}{stage}."]
    trial = connection.execute(select(trials).where(trials.c.model == model)).mappings().first()
    if trial is not None:
        return [f"{trial['challenger']} is on trial ({trial['mode']}) beside {trial['champion']}."]
    decision = past[0]["decision"] if past else None
    if decision and decision["action"] == "retrain":
        return _ended(connection, model)
    if not decision or decision["action"] != "wait":
        return [_UNPLANNED]
    missing = decision.get("missing_labels", 0)
    waits = [f"A retrain waits for {missing} labels: `trueup labels next {missing}` draws them."]
    return [*(waits if missing else ["A retrain waits."]), *map(str, decision["reasons"][1:])]


def _ended(connection: Connection, model: str) -> list[str]:
    """What became of the newest job: short ones end before the notice is routed."""
    query = select(jobs).where(jobs.c.model == model).order_by(jobs.c.id.desc()).limit(1)
    job = connection.execute(query).mappings().first()
    if job is None:
        return [_UNPLANNED]
    verdict = job["verdict"]
    if verdict:
        return [f"Job {job['id']} ended, {job['candidate']} {verdict['outcome']}.", *verdict["reasons"][:1]]
    why = (job["error"] or "").strip().splitlines()[:1]
    return [f"Job {job['id']} {_STATES[job['state']]}.", *why]


def _links(settings: MonitorSettings, model: str, past: list[Mapping[str, Any]]) -> list[Facts]:
    base = settings.public_url or f"http://{settings.host}:{settings.port}"
    reported = next((check["id"] for check in past if check["report"]), None)
    found = [("Status page", f"{base}/models/{model}")]
    found += [("Report", f"{base}/reports/{reported}")] if reported else []
    found += [("Runbook", f"{settings.runbook_url}#TrueupPage")] if settings.runbook_url else []
    return [{"name": name, "url": url} for name, url in found]


def _point(check: Mapping[str, Any]) -> Facts:
    quality, line = check["quality"] or {}, check["log_page_line"]
    known = quality.get("state") == "ok"
    return {
        "at": check["at"],
        "accuracy": quality["accuracy"] if known else check["accuracy"],
        "lower": quality["lower"] if known else None,
        "upper": quality["upper"] if known else None,
        "share": check["log_e"] / line if check["log_e"] is not None and line else None,
        "paged": check["paged"],
    }
