"""Every model in one line each, read in a fixed number of queries for any number of models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, ScalarSelect, Select, select

from exporter.database import clock
from exporter.tables import deployments, trials, versions
from monitor.lease import LEADER
from monitor.tables import checks, episodes, jobs, leases

Row = dict[str, Any]
_URGENT = ("alert", "failed", "drift", "not enough data", "no check yet", "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLine:
    """What is known of one model now; None where there is not enough data."""

    name: str
    champion: str | None
    state: str  # "alert", a CheckState, or "no check yet"
    causes: tuple[str, ...]  # of the episodes that fire
    check: Row | None  # the champion's newest
    quality: Row | None  # accuracy, lower, upper, labels of the champion's newest measurement
    holdout_accuracy: float | None
    job: Row | None  # the retrain that is queued or runs
    trial: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All models, the most urgent first; `leader` is the monitor that holds the lease, None without one."""

    models: tuple[FleetLine, ...]
    leader: str | None


def read_fleet(connection: Connection) -> Fleet:
    """Read the whole fleet."""
    served = [dict(row) for row in connection.execute(_served()).mappings()]
    ids = {row[which] for row in served for which in ("newest", "measured")} - {None}
    found = {row["id"]: dict(row) for row in connection.execute(_checks(ids)).mappings()}
    firing = defaultdict(list)
    open_ = select(episodes.c.model, episodes.c.cause).where(episodes.c.state == "firing")
    for model, cause in connection.execute(open_.order_by(episodes.c.id)):
        firing[model].append(cause)
    active = _by_model(connection, select(jobs).where(jobs.c.state.in_(("queued", "running"))))
    tried = _by_model(connection, select(trials))
    lines = [
        _line(row, found, tuple(firing[row["model"]]), active.get(row["model"]), tried.get(row["model"]))
        for row in served
    ]
    lines.sort(key=lambda line: (_URGENT.index(line.state), line.name))
    return Fleet(models=tuple(lines), leader=read_leader(connection))


def read_leader(connection: Connection) -> str | None:
    """The monitor that leads now."""
    query = select(leases.c.holder).where(leases.c.name == LEADER, leases.c.expires_at > clock(connection))
    return connection.scalar(query)


def state_of(causes: Sequence[object], check: Row | None) -> str:
    """One word for a model.

    >>> state_of(["drift"], None), state_of([], {"state": "ok"}), state_of([], None)
    ('alert', 'ok', 'no check yet')
    """
    if causes:
        return "alert"
    return "no check yet" if check is None else str(check["state"])


def _served() -> Select[Any]:
    names = select(versions.c.model).distinct().subquery()
    return (
        select(
            names.c.model,
            deployments.c.champion,
            versions.c.manifest["metrics"]["accuracy"].as_float().label("holdout_accuracy"),
            _newest(names.c.model).label("newest"),
            _newest(names.c.model, checks.c.quality.is_not(None)).label("measured"),
        )
        .outerjoin(deployments, deployments.c.model == names.c.model)
        .outerjoin(
            versions,
            (versions.c.model == deployments.c.model) & (versions.c.version == deployments.c.champion),
        )
        .order_by(names.c.model)
    )


def _newest(model: Any, *more: Any) -> ScalarSelect[Any]:
    found = select(checks.c.id).where(checks.c.model == model, *more)
    return found.order_by(checks.c.id.desc()).limit(1).correlate(model.table).scalar_subquery()


def _checks(ids: Iterable[int]) -> Select[Any]:
    told = ("accuracy", "lower", "upper")
    return select(
        checks.c.id, checks.c.version, checks.c.state, checks.c.log_e, checks.c.log_page_line, checks.c.at,
        checks.c.decision["action"].as_string().label("action"),
        checks.c.quality["state"].as_string().label("measured"),
        checks.c.quality["labels"].as_integer().label("labels"),
        *(checks.c.quality[name].as_float().label(name) for name in told),
    ).where(checks.c.id.in_(ids))  # fmt: skip


def _by_model(connection: Connection, query: Select[Any]) -> dict[str, Row]:
    return {row["model"]: dict(row) for row in connection.execute(query).mappings()}


def _line(
    row: Row, found: Mapping[int, Row], causes: tuple[str, ...], job: Row | None, trial: Row | None
) -> FleetLine:
    check, measured = (
        one if one is not None and one["version"] == row["champion"] else None
        for one in (found.get(row["newest"]), found.get(row["measured"]))
    )
    return FleetLine(
        name=row["model"],
        champion=row["champion"],
        state=state_of(causes, check),
        causes=causes,
        check=check,
        quality=measured if measured is not None and measured["measured"] == "ok" else None,
        holdout_accuracy=row["holdout_accuracy"],
        job=job,
        trial=trial,
    )
