"""Rows of a fleet for the status page: one model in the middle of a drift, others at rest."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Engine, Table, insert

from exporter.blocks import hour_of
from exporter.database import clock
from exporter.tables import deployment_events, deployments, labels, predictions, rollups, trials, versions
from monitor.lease import LEADER
from monitor.quality.interval import interval
from monitor.tables import checks, episodes, evidence, explanations, jobs, label_requests, leases, verdicts

LINE = math.log(10**4.7)
NASTY = "<script>alert(1)</script>"
DAY = 86400.0


def fill(db: Engine, *, quiet: int = 2) -> None:
    """ "router" drifts and retrains; "intents" was never checked; `quiet` models are well."""
    with db.begin() as connection:
        now = clock(connection)
        _insert(connection, leases, name=LEADER, holder="here:1", epoch=1, expires_at=now + 3600)
        for number in range(quiet):
            name = f"quiet-{number:02d}"
            serve(connection, name, ["v1"], now - 30 * DAY)
            predicted(connection, name, name, "v1", now, "a text with its label")
            _insert(connection, labels, prediction_id=name, label="a", source="file", at=now)
            for hour in range(48):
                check(
                    connection, name, "v1", now - 3600 * (47 - hour), log_e=0.4 * math.sin(hour), right=0.93,
                    action="wait" if number == 1 else "none",
                )  # fmt: skip
        serve(connection, "intents", ["v1"], now - 60.0)
        tell(connection, now)


def tell(connection: Connection, now: float) -> None:
    """The whole story of "router"."""
    serve(connection, "router", ["v1", "v2", "v3"], now - 20 * DAY)
    for number in range(84):
        drifted = max(0, number - 60)
        newest = check(
            connection,
            "router",
            "v2",
            now - 7200 * (83 - number),
            log_e=min(0.6 * drifted, 17.0),
            right=0.94 - 0.007 * drifted,
            action="wait" if drifted > 18 else "none",
            report="router-v2.html" if number == 83 else None,
        )
    for detector, log_e in (("similarity", 17.0), ("confidence", 9.0), ("accuracy", None)):
        _insert(
            connection, evidence, check_id=newest, detector=detector, rows=500, enough=log_e is not None,
            effect=-0.41, p_value=1e-9, log_e=log_e, detail={},
        )  # fmt: skip
    for cause, state, ago in (
        ("class_mix", "resolved", 5.0),
        ("drift", "firing", 0.5),
        (NASTY, "firing", 0.4),
    ):
        _insert(
            connection, episodes, model="router", version="v2", cause=cause, state=state,
            opened_at=now - ago * DAY, fired_at=now - ago * DAY,
            resolved_at=now - 4 * DAY if state == "resolved" else None,
            detail={"resolution": "it is quiet again"} if state == "resolved" else {},
        )  # fmt: skip
    _insert(connection, explanations, check_id=newest, model="router", version="v2", content=moved(), at=now)
    _retrains(connection, now)
    _traffic(connection, now)


def serve(connection: Connection, model: str, names: list[str], since: float) -> None:
    """Versions, the last but one of several (or the only one) as the champion."""
    champion = names[-2] if len(names) > 1 else names[0]
    for number, name in enumerate(names, start=1):
        state = "champion" if name == champion else "candidate" if name == names[-1] else "retired"
        manifest = {"rung": "head", "labels": ["a", "b"], "metrics": {"accuracy": 0.94}}
        _insert(
            connection, versions, model=model, version=name, number=number, state=state, path="p",
            manifest_sha256="0", manifest=manifest, created_at=since + number * DAY,
        )  # fmt: skip
    previous = names[0] if champion != names[0] else None
    _insert(
        connection, deployments, model=model, champion=champion, previous=previous, revision=2,
        changed_at=since,
    )  # fmt: skip
    _insert(
        connection, deployment_events, model=model, version=champion, replaced=previous,
        reason="first version", actor="train", at=since + 2 * DAY,
    )  # fmt: skip


def check(
    connection: Connection,
    model: str,
    version: str,
    at: float,
    *,
    log_e: float,
    right: float,
    action: str = "none",
    report: str | None = None,
) -> int:
    """One check with a measured accuracy; returns its number."""
    reasons = ["The pager proved a change (drift).", "Not enough labels: 120 of 200 since the change began."]
    lower, upper = interval(right, 240, 0.05)
    quality = {
        "state": "ok", "accuracy": right, "lower": lower, "upper": upper,
        "labels": 180, "rows": 1000, "alpha": 0.05, "effective_labels": 240.0,
    }  # fmt: skip
    return _insert(
        connection, checks, model=model, version=version, at=at, first_seq=1, last_seq=500, last_label_seq=9,
        state="drift" if log_e >= LINE else "ok", rows=500, labelled=40, accuracy=right, log_e=log_e,
        log_page_line=LINE, paged=log_e >= LINE, quality=quality, report=report,
        decision={"action": action, "reasons": reasons if action == "wait" else ["No change is proven."]},
    )  # fmt: skip


def moved() -> dict[str, Any]:
    """An explanation, with markup that somebody wrote."""
    nearest = [{"text": "my screen is blank", "label": "hardware", "similarity": 0.31}]
    return {
        "model": "router", "version": "v2", "rows": 400, "first_seq": 1, "last_seq": 500, "moved": 212,
        "moved_share": 0.53, "notes": ["Texts were redacted when they were stored."],
        "words": {
            "enough": True, "falling": [],
            "rising": [{"word": "baseball", "current_share": 0.12, "reference_share": 0.001}],
        },
        "classes": [{"label": NASTY, "rows": 90, "share": 0.42, "reference_share": 0.21, "p_value": 1e-7}],
        "slices": [
            {"key": "country", "value": "de", "what": "accuracy", "before": 0.93, "now": 0.7, "rows": 88,
             "p_value": 1e-4}
        ],
        "examples": [
            {"text": NASTY, "id": "p1", "label": "hardware", "truth": None, "similarity": 0.2,
             "stands_for": 31, "nearest": nearest}
        ],
    }  # fmt: skip


def _retrains(connection: Connection, now: float) -> None:
    part = {
        "rows": 412, "champion_accuracy": 0.81, "challenger_accuracy": 0.9, "only_champion": 6,
        "only_challenger": 43, "gain": 0.09, "gain_lower_95": 0.062, "unseen_drop": 0.021,
    }  # fmt: skip
    verdict = {
        "promote": True,
        "reasons": ["Better on recent traffic: 43 rows won, 6 lost of 412, p = 1e-08."],
        "numbers": {"recent": part, "base": part | {"gain": 0.001, "gain_lower_95": -0.014}},
    }
    job = {
        "model": "router", "attempt": 1, "max_attempts": 3, "not_before": 0.0, "cancel_requested": False,
        "base_version": "v2", "updated_at": now, "progress": {},
    }  # fmt: skip
    done = _insert(
        connection, jobs, **job, trigger="page", dedupe_key="first", state="done", candidate="v3",
        created_at=now - 3 * DAY, finished_at=now - 3 * DAY + 300, verdict=verdict,
    )  # fmt: skip
    _insert(
        connection, verdicts, model="router", version="v3", parent="v2", job=done, at=now - 3 * DAY,
        record={"outcome": "on trial", "verdict": verdict}, previous_hash="0" * 64, hash="a" * 64,
    )  # fmt: skip
    progress = {"stage": "fit", "done": 340, "total": 1200, "eta_s": 184.0, "message": "epoch 1"}
    _insert(
        connection, jobs, **job | {"progress": progress}, trigger="page", dedupe_key="second",
        state="running", created_at=now - 240, episode_id=2,
    )  # fmt: skip


def _traffic(connection: Connection, now: float) -> None:
    _insert(
        connection, trials, model="router", champion="v2", challenger="v3", mode="canary", share=0.1,
        started_at=now - 3600,
    )  # fmt: skip
    for version, rows in (("v2", 9000), ("v3", 1000)):
        _insert(
            connection, rollups, model="router", version=version, hour=hour_of(now), series="label", bin="a",
            rows=rows,
        )  # fmt: skip
    for number, text in enumerate((NASTY, "who pitches tonight?")):
        predicted(connection, f"p{number}", "router", "v2", now, text)
        _insert(
            connection, label_requests, prediction_id=f"p{number}", model="router", version="v2",
            strategy="drift", probability=0.2, draw="d", first_seq=1, last_seq=2, rate=1.0, at=now,
        )  # fmt: skip


def predicted(connection: Connection, name: str, model: str, version: str, at: float, text: str) -> None:
    """One answered row."""
    _insert(
        connection, predictions, id=name, model=model, version=version, role="champion", at=at, text=text,
        label="a", score=0.51, scores=[0.51, 0.49], embedding=b"", similarity=0.2, tokens=3, characters=9,
        truncated=False, queue_ms=0.0, run_ms=1.0, metadata={},
    )  # fmt: skip


def _insert(connection: Connection, table: Table, **values: Any) -> int:
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    return key[0] if key is not None and isinstance(key[0], int) else 0
