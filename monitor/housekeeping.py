"""What is thrown away, or moved into the lake, so that a database and a home folder do not grow for ever.

Kept in any case: versions that serve, served, were judged or may still be promoted, and whatever a kept
version's manifest names. Nothing is deleted for being unknown to this database: another may share the folder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, delete, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from exporter.tables import deployments, predictions, reference, sketches, trials, versions
from monitor.expired import clean_expired
from monitor.lake import seal
from monitor.lake.days import DAY_S
from monitor.lease import brief
from monitor.settings import MonitorSettings
from monitor.tables import due_slots, jobs, verdicts

_BATCH = 1000  # rows of one transaction: writers wait for no longer than that takes
_log = structlog.get_logger("trueup.housekeeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """How many of each were removed."""

    slots: int
    candidates: int
    job_folders: int
    snapshots: int
    expired: int  # rows that are over: see expired.py
    predictions: int  # moved into the lake


def clean(db: Engine, home: Path, monitor: MonitorSettings, *, now: float) -> Cleaned:
    """Remove what is older than the settings say; `now` is the database's clock, seconds since 1970 UTC."""
    before = now - monitor.keep_candidates
    cleaned = Cleaned(
        slots=clean_slots(db, before=now - monitor.keep_slots),
        candidates=clean_candidates(db, home, before=before),
        job_folders=clean_job_folders(db, home, before=before),
        snapshots=clean_snapshots(db, home, before=before),
        expired=clean_expired(db, monitor, now=now),
        predictions=_seal(db, home, monitor, now),
    )
    _log.info("cleaned", **asdict(cleaned))
    return cleaned


def _seal(db: Engine, home: Path, monitor: MonitorSettings, now: float) -> int:
    if monitor.lake is None:
        return 0
    before = now - monitor.keep_predictions
    if monitor.keep_rows:
        before = max(before, _beyond(db, monitor.keep_rows, now))
    return seal(db, home / monitor.lake, before=before)


def _beyond(db: Engine, rows: int, now: float) -> float:
    """The end of the day of the first row that there is no room for; today's rows stay in any case."""
    newest = select(predictions.c.at).order_by(predictions.c.seq.desc()).offset(rows).limit(1)
    with db.connect() as connection:
        at = connection.scalar(newest)
    return 0.0 if at is None else min(now, at + DAY_S)


def clean_slots(db: Engine, *, before: float) -> int:
    """Delete slots that ended and were due before `before`; returns how many.

    The newest slot of a schedule stays: the next one is counted from it.
    """
    later = aliased(due_slots)
    newer = select(later.c.due_at).where(
        later.c.schedule == due_slots.c.schedule,
        later.c.due_at > due_slots.c.due_at,
        later.c.due_at <= before,
    )
    ended = select(due_slots.c.schedule, due_slots.c.due_at).where(
        due_slots.c.state.in_(("done", "failed")), due_slots.c.due_at < before, newer.exists()
    )
    key = tuple_(due_slots.c.schedule, due_slots.c.due_at)
    gone = 0
    while True:
        with brief(db) as connection:
            removed = connection.execute(delete(due_slots).where(key.in_(ended.limit(_BATCH)))).rowcount
        gone += removed
        if removed < _BATCH:
            return gone


def clean_candidates(db: Engine, home: Path, *, before: float) -> int:
    """Delete versions whose job failed or was cancelled before `before`, with their files; returns how many.

    The newest version of a model stays, so that no number is ever given twice.
    """
    with db.connect() as connection:
        found = connection.execute(select(versions).where(_forsaken(before))).mappings().all()
    return sum(_forget(db, home, row, before) for row in found)


def clean_job_folders(db: Engine, home: Path, *, before: float) -> int:
    """Delete the work folders of jobs that ended before `before`; returns how many."""
    ended = select(jobs.c.id).where(jobs.c.finished_at < before, jobs.c.state.not_in(("queued", "running")))
    with db.connect() as connection:
        ids = {str(id_) for id_ in connection.execute(ended).scalars()}
    old = [folder for folder in _entries(home / "jobs") if folder.name in ids and _written(folder) < before]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def clean_snapshots(db: Engine, home: Path, *, before: float) -> int:
    """Delete training snapshots written before `before` that no version names; returns how many.

    None goes while a job is active: a retrain of the same rows would be about to read it.
    """
    with db.connect() as connection:
        active = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")))
        if connection.execute(active).first() is not None:
            return 0
        manifests = list(connection.execute(select(versions.c.manifest)).scalars())
    manifests += [_read(path) for path in (home / "versions").glob("*/*/manifest.json")]
    named = {manifest.get("data", {}).get("sha256") for manifest in manifests}
    kinds = (".parquet", ".npy")  # a snapshot's rows, and their embeddings beside it
    old = [path for path in _entries(home / "data") if path.suffix in kinds and _written(path) < before]
    unnamed = [path for path in old if path.name.split(".")[0] not in named]
    for path in unnamed:
        path.unlink(missing_ok=True)
    return len(unnamed)


def _forsaken(before: float) -> ColumnElement[bool]:
    """Candidates of failed jobs that nothing else refers to."""
    other, made = aliased(versions), jobs.c.model == versions.c.model
    failed = jobs.c.state.in_(("failed", "cancelled"))
    used = or_(jobs.c.candidate == versions.c.version, jobs.c.base_version == versions.c.version)
    newest = select(func.max(other.c.number)).where(other.c.model == versions.c.model).scalar_subquery()
    return and_(
        versions.c.state == "candidate",
        versions.c.number < newest,
        select(jobs.c.id)
        .where(made, failed, jobs.c.candidate == versions.c.version, jobs.c.finished_at < before)
        .exists(),
        ~select(jobs.c.id).where(made, used, ~and_(failed, jobs.c.finished_at < before)).exists(),
        ~select(deployments.c.model)
        .where(
            deployments.c.model == versions.c.model,
            or_(deployments.c.champion == versions.c.version, deployments.c.previous == versions.c.version),
        )
        .exists(),
        ~select(trials.c.model)
        .where(trials.c.model == versions.c.model, trials.c.challenger == versions.c.version)
        .exists(),
        ~select(verdicts.c.id)
        .where(verdicts.c.model == versions.c.model, verdicts.c.version == versions.c.version)
        .exists(),
        ~select(predictions.c.seq)
        .where(predictions.c.model == versions.c.model, predictions.c.version == versions.c.version)
        .exists(),
        ~select(other.c.model)
        .where(other.c.model == versions.c.model, other.c.parent == versions.c.version)
        .exists(),
    )


def _forget(db: Engine, home: Path, row: RowMapping, before: float) -> bool:
    """Delete one version, if it is still forsaken: its rows and, at the same moment, its folder's name."""
    trash = home / "versions" / ".staging" / uuid4().hex  # what a crash leaves there, registration sweeps
    with brief(db) as connection:
        if not _delete_rows(connection, row, before):
            return False
        if Path(row["path"]).exists():
            trash.parent.mkdir(parents=True, exist_ok=True)
            Path(row["path"]).rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _delete_rows(connection: Connection, row: RowMapping, before: float) -> bool:
    this = and_(versions.c.model == row["model"], versions.c.version == row["version"])
    if connection.execute(select(versions.c.version).where(this, _forsaken(before))).first() is None:
        return False
    for table in (reference, sketches):
        connection.execute(
            delete(table).where(table.c.model == row["model"], table.c.version == row["version"])
        )
    connection.execute(delete(versions).where(this))
    return True


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _written(path: Path) -> float:
    """When it was last written, seconds since 1970 UTC; infinity where it has just gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
