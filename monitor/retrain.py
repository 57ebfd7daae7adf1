"""One attempt of a retrain: rows → child trainer → registered version → verdict → promoted or rejected.

Everything that an attempt makes lies below home/jobs/<id>/<attempt>/. Its changes to the database are
transactions that name the attempt: one that was replaced changes nothing. The champion is not touched
before the one transaction that ends the job and promotes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import structlog
from sqlalchemy import Engine

from exporter import registry
from exporter.settings import Device, Precision
from monitor import episodes, jobs
from monitor.child import TrainingDied, run_trainer
from monitor.compare import compare
from monitor.compose import Lesson, Pairing, compose, read_manifest, read_pairing, write_pairing
from monitor.errors import MonitorError
from monitor.jobs import Job
from monitor.lease import kept
from monitor.lineage import holdout_uses
from monitor.promotion import OvertakenError, act
from monitor.records import Case
from monitor.settings import ModelSettings, MonitorSettings
from monitor.verdict import Intent, Pairs, judge
from monitor.verdict.rows import count
from trainer.decoder.sealed import open_sealed
from trainer.errors import TrainerError, VersionRefusedError
from trainer.fitting.checkpoint import folder_of
from trainer.known import write_known
from trainer.rows import write_holdout, write_snapshot
from trainer.settings import TrainerSettings
from trainer.train import Parent, write_request

_log = structlog.get_logger("trueup.retrain")
Watch = Callable[[dict[str, Any]], None]


class CancelledError(MonitorError):
    """Somebody asked for the job's end."""

    def __init__(self, job: int) -> None:
        super().__init__(f"Job {job} was cancelled.")


class StoppedError(MonitorError):
    """This process must end; the job goes on elsewhere or later."""

    def __init__(self, job: int) -> None:
        super().__init__(f"The monitor stops; job {job} goes back to the queue.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where and how one process runs jobs."""

    db: Engine
    home: Path
    settings: ModelSettings
    monitor: MonitorSettings
    trainer: TrainerSettings
    threads: int = 2  # of the replay that registers a version
    device: Device = "cpu"  # of the same
    precision: Precision = "auto"  # of the same
    stop: Event | None = None  # the process is asked to end
    watch: Watch | None = None  # sees each progress line, for a terminal
    now: float | None = None  # of a backtest; otherwise this machine's clock


def run_job(shop: Workshop, job: Job) -> dict[str, Any] | None:
    """Run a claimed job to its end and return its verdict, None where there is none.

    The job ends done, failed, cancelled, or queued again after its child died. Raises JobLost when another
    attempt took over: then this one has changed nothing.
    """
    log = _log.bind(job=job.id, attempt=job.attempt, model=job.model)
    try:
        version, pairing = _candidate(shop, job)
        return _decide(shop, job, version, pairing)
    except CancelledError:
        with shop.db.begin() as connection:
            jobs.end_cancelled(connection, job)
        log.info("cancelled")
    except StoppedError:
        with shop.db.begin() as connection:
            jobs.give_back(connection, job)
        log.info("given back")
    except TrainingDied as died:
        with shop.db.begin() as connection:
            again = jobs.retry(connection, job, str(died), now=shop.now)
        log.warning("training died", problem=str(died), again=again)
    except jobs.JobLost:
        raise
    except (MonitorError, TrainerError) as refused:
        with shop.db.begin() as connection:
            jobs.fail(connection, job, str(refused), now=shop.now)
        log.warning("failed", problem=str(refused))
    return None


def _candidate(shop: Workshop, job: Job) -> tuple[str, Pairing]:
    """The version this job made, by an earlier attempt where one got so far."""
    if job.candidate is not None and "pairing" in job.progress:
        return job.candidate, Pairing.from_json(job.progress["pairing"])
    folder = _sealed(shop.home, job) or _train(shop, job)
    pairing = read_pairing(folder / "pairing.json")
    _beat(shop, job, {"stage": "register", "done": 0, "total": 1})
    # Registering a version twice gives the same name: a crash right here costs nothing.
    with _kept(shop, job):
        version = registry.register(
            shop.db,
            shop.home,
            folder / "version",
            threads=shop.threads,
            device=shop.device,
            precision=shop.precision,
            now=_now(shop),
        )
    with shop.db.begin() as connection:
        jobs.record_candidate(
            connection,
            job,
            version,
            {"stage": "verdict", "done": 0, "total": 1, "pairing": pairing.to_json()},
        )
    return version, pairing


def _sealed(home: Path, job: Job) -> Path | None:
    """The folder of an earlier attempt that sealed its version."""
    for folder in sorted((home / "jobs" / str(job.id)).glob("*/version/manifest.json")):
        try:
            open_sealed(folder.parent)
        except VersionRefusedError:
            continue
        return folder.parent.parent
    return None


def _train(shop: Workshop, job: Job) -> Path:
    parent = registry.champion(shop.db, job.model)
    if parent is None or parent != job.base_version:
        raise OvertakenError(job.model, str(job.base_version))
    _beat(shop, job, {"stage": "rows", "done": 0, "total": 1})
    with _kept(shop, job):
        lesson = compose(shop.db, shop.home, job.model, parent, shop.settings, since_seq=_onset(shop.db, job))
    folder = shop.home / "jobs" / str(job.id) / str(job.attempt)
    folder.mkdir(parents=True, exist_ok=True)
    request = _request(shop, lesson, folder)
    made = run_trainer(
        request,
        folder / "version",
        log=folder / "trainer.log",
        beat=lambda line: _beat(shop, job, line),
        every_s=min(1.0, shop.monitor.job_lease_s / 4),
    )
    assert made == folder / "version"
    return folder


def _request(shop: Workshop, lesson: Lesson, folder: Path) -> Path:
    snapshot, digest = write_snapshot(lesson.rows, shop.home / "data")
    write_holdout(lesson.holdout, folder / "holdout.parquet")
    judged: Path | None = None
    unseen: Path | None = None
    if lesson.judged:
        judged, unseen = folder / "judged.parquet", folder / "unseen.parquet"
        write_holdout(lesson.judged, judged)
    write_pairing(
        replace(lesson.pairing, unseen=str(unseen) if unseen is not None else None), folder / "pairing.json"
    )
    path = folder / "request.json"
    write_request(
        path,
        lesson.spec,
        train=snapshot,
        holdout=folder / "holdout.parquet",
        sha256=digest,
        parent=_parent(shop, lesson, folder),
        cache=shop.trainer.cache,
        checkpoints=folder_of(folder.parent, lesson.spec, digest),
        judged=judged,
        unseen=unseen,
    )
    return path


def _parent(shop: Workshop, lesson: Lesson, folder: Path) -> Parent:
    """The champion, and what its encoder has already said of the labelled texts."""
    model, name = lesson.spec.model.name, lesson.pairing.parent
    write_known(lesson.known, folder / "known.parquet")
    return Parent(
        name=name, folder=registry.version_path(shop.db, model, name), known=folder / "known.parquet"
    )


def _beat(shop: Workshop, job: Job, line: dict[str, Any] | None) -> None:
    """Renew the lease; CancelledError or JobLost when the attempt must stop."""
    if line is not None and shop.watch is not None:
        shop.watch(line)
    if shop.stop is not None and shop.stop.is_set():
        raise StoppedError(job.id)
    if jobs.heartbeat(shop.db, job, lease_s=shop.monitor.job_lease_s, progress=line):
        raise CancelledError(job.id)


def _kept(shop: Workshop, job: Job) -> AbstractContextManager[None]:
    """Renew the lease beside work that says nothing itself."""
    return kept(lambda: _beat(shop, job, None), every_s=shop.monitor.job_lease_s / 4)


def _onset(db: Engine, job: Job) -> int:
    """First prediction of the drift that the job answers; 0 where it answers none."""
    if job.episode_id is None:
        return 0
    with db.connect() as connection:
        found = [one for one in episodes.list_open(connection, job.model) if one.id == job.episode_id]
    return int(found[0].detail.get("onset_seq", 0)) if found else 0


def _decide(shop: Workshop, job: Job, version: str, pairing: Pairing) -> dict[str, Any]:
    _beat(shop, job, None)
    intent: Intent = "drift" if job.episode_id is not None else "refresh"
    with _kept(shop, job):
        comparison = compare(
            shop.db,
            shop.home,
            job.model,
            version,
            pairing,
            threads=shop.threads,
            device=shop.device,
            precision=shop.precision,
        )
    _beat(shop, job, None)
    with shop.db.connect() as connection:
        known = read_manifest(connection, job.model, version).labels
        uses = holdout_uses(connection, job.model, pairing.parent)
    case = Case(
        job=job,
        version=version,
        parent=pairing.parent,
        intent=intent,
        comparison=comparison,
        verdict=judge(intent, comparison, margin=shop.settings.margin),
        settings=shop.settings,
        labels_used=pairing.labels_used,
        notes=(
            *pairing.notes(known),
            *selected(count(comparison.recent)),
            f"The hold-out of old traffic has decided {uses} times before.",
        ),
        at=_now(shop),
    )
    outcome = act(shop.db, case, now=shop.now)
    shutil.rmtree(shop.home / "jobs" / str(job.id), ignore_errors=True)
    _log.info("verdict", job=job.id, model=job.model, version=version, promote=outcome["promote"])
    return outcome


def selected(recent: Pairs) -> tuple[str, ...]:
    """What a person should know where the champion was right in none of the recent labelled rows.

    >>> selected(Pairs(both=1, only_champion=0, only_challenger=9, neither=9))
    ()
    >>> selected(Pairs(both=0, only_champion=0, only_challenger=9, neither=9))[0][:48]
    'The champion was right in none of the 18 recent '
    """
    if not recent.rows or recent.both or recent.only_champion:
        return ()
    return (
        f"The champion was right in none of the {recent.rows} recent rows: if only wrong answers were "
        "labelled, they cannot show what a challenger loses, and only the old traffic does.",
    )


def _now(shop: Workshop) -> float:
    return time.time() if shop.now is None else shop.now
