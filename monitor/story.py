"""One model's story, for the status page: what it serves, what was found, what was done and why.

Every query is bounded and walks an index; all of them see the same moment of the database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from exporter.blocks import HOUR_S, hour_of
from exporter.database import clock
from exporter.generation import said
from exporter.tables import (
    deployment_events,
    deployments,
    labels,
    predictions,
    rollups,
    trials,
    versions,
)
from monitor.explain.store import newest_explanation
from monitor.fleet import read_leader, state_of
from monitor.over_time import Point, read_course
from monitor.tables import audit, checks, episodes, evidence, jobs, label_requests, silences, verdicts

Row = dict[str, Any]
LAST = 8  # rows of each kind that one screen shows
_HOURS = 24  # of traffic
_REQUESTS = 500  # newest drawn rows that are searched for those without a label


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStory:
    """The newest rows of each kind, newest first."""

    name: str
    champion: str | None
    previous: str | None  # what a rollback brings back
    leader: str | None
    course: list[Point]  # oldest first
    quality: Row | None  # the champion's newest measurement with a number, quality.Quality
    versions: list[Row]
    traffic: dict[str, int]  # answered rows by version, last 24 h
    trial: Row | None
    checks: list[Row]
    evidence: list[Row]  # of the newest window
    silence: Row | None  # the one that ends last, where alerts are silenced now
    episodes: list[Row]
    explanation: Row | None
    jobs: list[Row]
    verdicts: list[Row]
    requests: list[Row]  # drawn rows without a label
    deployments: list[Row]
    audit: list[Row]

    @property
    def firing(self) -> list[Row]:
        """Open alert episodes that fire."""
        return [episode for episode in self.episodes if episode["state"] == "firing"]

    @property
    def check(self) -> Row | None:
        """The champion's newest check."""
        newest = self.checks[0] if self.checks else None
        return newest if newest is not None and newest["version"] == self.champion else None

    @property
    def state(self) -> str:
        """One word: "alert", a CheckState, or "no check yet"."""
        return state_of(self.firing, self.check)

    @property
    def job(self) -> Row | None:
        """The retrain that is queued or runs."""
        return next((job for job in self.jobs if job["state"] in ("queued", "running")), None)


def read_story(connection: Connection, model: str, *, days: float) -> ModelStory | None:
    """The story of the last `days`; None where no version of the model is registered."""
    own = _newest(connection, select(versions).where(versions.c.model == model), versions.c.number)
    if not own:
        return None
    now = clock(connection)
    served = _one(connection, select(deployments).where(deployments.c.model == model)) or {}
    champion = served.get("champion")
    checked = _newest(connection, _checks(model), checks.c.id)
    judged = next((check["id"] for check in checked if check["first_seq"] is not None), -1)
    tried = _one(connection, select(trials).where(trials.c.model == model))
    events = select(deployment_events).where(deployment_events.c.model == model)
    return ModelStory(
        name=model,
        champion=champion,
        previous=served.get("previous"),
        leader=read_leader(connection),
        course=read_course(connection, model, since=now - days * 86400, until=now),
        quality=_quality(connection, model, champion),
        versions=own,
        traffic=_traffic(connection, model, [row["version"] for row in own], now),
        trial=tried,
        checks=checked,
        evidence=_rows(
            connection, select(evidence).where(evidence.c.check_id == judged).order_by(evidence.c.detector)
        ),
        episodes=_newest(connection, select(episodes).where(episodes.c.model == model), episodes.c.id),
        silence=_one(connection, _silence(model, now)),
        explanation=newest_explanation(connection, model),
        jobs=_newest(connection, select(jobs).where(jobs.c.model == model), jobs.c.id),
        verdicts=_newest(connection, _verdicts(model), verdicts.c.id),
        requests=_requests(connection, model, champion),
        deployments=_newest(connection, events, deployment_events.c.at),
        audit=_newest(connection, select(audit).where(audit.c.model == model), audit.c.id),
    )


def powers(log: float | None) -> float | None:
    """A natural logarithm in powers of ten.

    >>> round(powers(4.60517), 3)
    2.0
    """
    return None if log is None else log / math.log(10)


def _checks(model: str) -> Select[Any]:
    left_out = ("quality", "evidently")
    columns = [column for column in checks.c if column.name not in left_out]
    quality_html = checks.c.evidently["quality_html"].as_string().label("quality_html")
    return select(*columns, quality_html).where(checks.c.model == model)


def _quality(connection: Connection, model: str, champion: str | None) -> Row | None:
    """The newest measurement, if it is the champion's and found a number."""
    query = select(checks.c.version, checks.c.quality, checks.c.at).where(
        checks.c.model == model, checks.c.quality.is_not(None)
    )
    row = _one(connection, query.order_by(checks.c.id.desc()).limit(1))
    if row is None or row["version"] != champion or row["quality"]["state"] != "ok":
        return None
    return {**row["quality"], "at": row["at"]}


def _traffic(connection: Connection, model: str, known: list[str], now: float) -> dict[str, int]:
    this = hour_of(now)
    query = (
        select(rollups.c.version, func.sum(rollups.c.rows))
        .where(
            rollups.c.model == model,
            rollups.c.version.in_(known),
            rollups.c.hour.in_([this - HOUR_S * ago for ago in range(_HOURS)]),
            rollups.c.series == "label",
        )
        .group_by(rollups.c.version)
    )
    return {version: int(rows) for version, rows in connection.execute(query)}


def _silence(model: str, now: float) -> Select[Any]:
    lasting = select(silences).where(silences.c.model == model, silences.c.ends_at > now)
    return lasting.order_by(silences.c.ends_at.desc()).limit(1)


def _verdicts(model: str) -> Select[Any]:
    """Without the rows that a record keeps for judging again."""
    told = ("kind", "outcome", "action")
    return select(
        verdicts.c.id, verdicts.c.version, verdicts.c.parent, verdicts.c.job, verdicts.c.at, verdicts.c.hash,
        verdicts.c.record["verdict"].label("verdict"),
        *(verdicts.c.record[name].as_string().label(name) for name in told),
    ).where(verdicts.c.model == model)  # fmt: skip


def _requests(connection: Connection, model: str, champion: str | None) -> list[Row]:
    drawn = (
        select(label_requests)
        .where(label_requests.c.model == model, label_requests.c.version == champion)
        .order_by(label_requests.c.at.desc())
        .limit(_REQUESTS)
        .subquery()
    )
    query = (
        select(drawn, predictions.c.text, said().label("predicted"), predictions.c.score)
        .outerjoin(labels, labels.c.prediction_id == drawn.c.prediction_id)
        .outerjoin(predictions, predictions.c.id == drawn.c.prediction_id)
        .where(labels.c.seq.is_(None))
        .order_by(drawn.c.at.desc(), drawn.c.prediction_id)
    )
    return _rows(connection, query)


def _newest(connection: Connection, query: Select[Any], order: Any) -> list[Row]:
    return _rows(connection, query.order_by(order.desc()).limit(LAST))


def _one(connection: Connection, query: Select[Any]) -> Row | None:
    return next(iter(_rows(connection, query)), None)


def _rows(connection: Connection, query: Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]
