"""What a check needs to know of the past: where the last one stopped, the pager, the onset, the retrains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from exporter import registry
from exporter.database import upsert
from exporter.tables import labels, predictions
from monitor import pager
from monitor.evidence import bettors
from monitor.jobs import Job, list_jobs
from monitor.label_counts import count_labels, readable_text
from monitor.stored_wealth import from_json, to_json
from monitor.tables import checks, evidence, pagers, wealth

YEAR_S = 365 * 86400.0
DAY_S = 86400.0
SUSPICIOUS = 0.01  # p-value of one window's evidence from which a drift may have begun
_UNBROKEN = 50  # windows that an onset is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the checks of one version have read; `last_check` tells two checks of the same rows apart."""

    last_check: int
    seq: int
    label_seq: int
    outcome_hour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrains:
    """What `policy` must know of earlier jobs."""

    last_at: float | None
    in_24_h: int
    rejections: int  # in a row
    active: bool


def read_cursor(connection: Connection, model: str, version: str) -> Cursor:
    """Where the newest check of this version stopped; zeros before the first."""
    statement = (
        select(checks.c.id, checks.c.last_seq, checks.c.last_label_seq, checks.c.last_outcome_hour)
        .where(checks.c.model == model, checks.c.version == version)
        .order_by(checks.c.id.desc())
        .limit(1)
    )
    found = connection.execute(statement).first()
    return Cursor(
        last_check=found.id if found else 0,
        seq=found.last_seq if found else 0,
        label_seq=found.last_label_seq if found else 0,
        outcome_hour=(found.last_outcome_hour or 0) if found else 0,
    )


def open_pager(
    connection: Connection, model: str, version: str, slices: Sequence[str] | None = None
) -> float | None:
    """The error budget of the version's open pager, None where none is open (with these slices, if given)."""
    statement = select(pagers.c.alpha, pagers.c.slices).where(
        pagers.c.model == model, pagers.c.version == version, pagers.c.ended_at.is_(None)
    )
    found = connection.execute(statement).first()
    if found is None or (slices is not None and tuple(found.slices or ()) != tuple(slices)):
        return None
    alpha: float = found.alpha
    return alpha


def next_alpha(connection: Connection, model: str, budget: float, now: float) -> float:
    """What the next pager of the model may spend of the year's budget."""
    statement = select(func.count()).where(pagers.c.model == model, pagers.c.started_at > now - YEAR_S)
    return pager.pager_alpha(1 + connection.execute(statement).scalar_one(), budget)


def begin_pager(
    connection: Connection, model: str, version: str, alpha: float, now: float, slices: Sequence[str] = ()
) -> None:
    """End the model's pager and open one for `version`; its wealth starts from e = 1."""
    end_pager(connection, model, now)
    connection.execute(delete(wealth).where(wealth.c.model == model, wealth.c.version == version))
    connection.execute(
        insert(pagers).values(
            model=model,
            version=version,
            alpha=alpha,
            started_at=now,
            ended_at=None,
            slices=list(slices) or None,
        )
    )


def end_pager(connection: Connection, model: str, now: float) -> None:
    """End the model's open pager: its page is answered; the next check opens another."""
    statement = update(pagers).where(pagers.c.model == model, pagers.c.ended_at.is_(None))
    connection.execute(statement.values(ended_at=now))


def read_wealth(connection: Connection, model: str, version: str) -> dict[str, pager.Wealth]:
    """Every detector's wealth against the version's reference."""
    statement = select(wealth.c.detector, wealth.c.state).where(
        wealth.c.model == model, wealth.c.version == version
    )
    return {row.detector: from_json(row.state) for row in connection.execute(statement)}


def write_wealth(
    connection: Connection, model: str, version: str, held: dict[str, pager.Wealth], now: float
) -> None:
    """Store every detector's wealth."""
    for detector, one in held.items():
        row: dict[str, Any] = {"state": to_json(one), "updated_at": now}
        statement = upsert(wealth, connection.dialect.name).values(
            model=model, version=version, detector=detector, **row
        )
        connection.execute(
            statement.on_conflict_do_update(index_elements=["model", "version", "detector"], set_=row)
        )


def read_onset(connection: Connection, model: str, version: str) -> int | None:
    """First `predictions.seq` of the unbroken run of suspicious windows that ends now, None without one."""
    suspicious = (
        select(func.min(evidence.c.p_value))
        .where(evidence.c.check_id == checks.c.id, evidence.c.detector.in_(_suspects()))
        .correlate(checks)
        .scalar_subquery()
    )
    statement = (
        select(checks.c.first_seq, suspicious.label("p_value"))
        .where(checks.c.model == model, checks.c.version == version, checks.c.first_seq.is_not(None))
        .order_by(checks.c.id.desc())
        .limit(_UNBROKEN)
    )
    onset = None
    for row in connection.execute(statement):
        if row.p_value is None or row.p_value > SUSPICIOUS:
            break
        onset = row.first_seq
    return onset


def _suspects() -> list[str]:
    """Detectors that bet and whose change means loss: with all, clean windows would look suspicious."""
    return [found.name for found in bettors() if found.means_loss and found.weight]


def labels_after(connection: Connection, model: str, version: str, seq: int) -> int:
    """Labels of the version's predictions from `seq` on, whose text was kept."""
    if seq <= 0:
        return count_labels(connection, model, version).readable
    statement = select(func.count()).select_from(
        predictions.join(labels, labels.c.prediction_id == predictions.c.id)
    )
    statement = statement.where(
        predictions.c.model == model,
        predictions.c.version == version,
        predictions.c.seq >= seq,
        readable_text(),
    )
    return connection.execute(statement).scalar_one()


def read_retrains(db: Engine, model: str, now: float) -> Retrains:
    """What earlier jobs of the model allow."""
    past = [job for job in list_jobs(db, model, limit=200) if job.state != "cancelled"]
    return Retrains(
        last_at=max((job.finished_at or job.created_at for job in past), default=None),
        in_24_h=sum(job.created_at > now - DAY_S for job in past),
        rejections=_rejections(past, _rejected(db, model)),
        active=any(job.state in ("queued", "running") for job in past),
    )


def _rejected(db: Engine, model: str) -> set[str]:
    return {row.version for row in registry.list_versions(db, model) if row.state == "rejected"}


def _rejections(newest_first: list[Job], rejected: set[str]) -> int:
    """Newest jobs in a row without a champion; a challenger that lost its trial counts, too."""
    count = 0
    for job in newest_first:
        if job.state in ("queued", "running"):
            continue
        promoted = job.verdict is not None and job.verdict.get("promote")
        if job.state == "done" and promoted and job.candidate not in rejected:
            break
        count += 1
    return count
