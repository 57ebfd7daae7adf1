"""Replay of a history: serve, record, label, check, retrain, promote, window by window on virtual time."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import select

from exporter import registry
from exporter.database import open_database
from exporter.descriptors import describe
from exporter.engines import Answer
from exporter.labels import record_labels
from exporter.loader import store
from exporter.prediction import Prediction
from monitor.asking import ask_retrain
from monitor.backtest.answers import Reader, embeddings
from monitor.backtest.first import MODEL, Plan, Progress, Shared, prepare, quiet
from monitor.backtest.past import Event
from monitor.backtest.tape import Tape, cpu_seconds
from monitor.check import CheckResult, run_check
from monitor.config import Settings
from monitor.cron import parse
from monitor.jobs import Job, JobRefused, claim, list_jobs
from monitor.retrain import Workshop, run_job
from monitor.tables import episodes
from trainer.artifact import open_version

_LEASE_S = 3600.0


def replay(
    events: Sequence[Event],
    plan: Plan,
    settings: Settings,
    *,
    progress: Progress = quiet,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Run the whole history in `settings.home` and return the document.

    With `shared`, which another home was prepared with, v1 is not trained and nothing is embedded again; its
    cost is not in this run's `cpu_seconds`. Raises HistoryError, TrainerError.
    """
    started, began = time.perf_counter(), cpu_seconds()
    if shared is None:
        shared = prepare(events, plan, settings, progress=progress)
    else:
        shutil.copytree(shared.home, settings.home, dirs_exist_ok=True)
    db = open_database(settings.database_url)
    try:
        loop = Loop(db, events, plan, settings, shared, progress)
        loop.run()
    finally:
        db.dispose()
    spent = cpu_seconds() - began
    return loop.tape.document(rows=len(events), seconds=time.perf_counter() - started, cpu_seconds=spent)


class Loop:
    """The production loop with the HTTP left out and the clock in its hand."""

    def __init__(
        self,
        db: Database,
        events: Sequence[Event],
        plan: Plan,
        settings: Settings,
        shared: Shared,
        progress: Progress,
    ) -> None:
        self._db, self._plan, self._settings, self._progress = db, plan, settings, progress
        self._shared, self._future = shared, events[plan.train_rows :]
        self._lots = random.Random(plan.seed)  # noqa: S311 -- which rows get a label
        self._due: list[tuple[float, str, str]] = []
        monitor = settings.monitor
        self._schedule = parse(monitor.retrain, monitor.time_zone) if monitor.retrain else None
        self._now = events[plan.train_rows - 1].at
        self.tape = Tape()

    def run(self) -> None:
        """Replay the future."""
        version = self._shared.version
        frozen = reader = self._reader(version)
        for number, start in enumerate(range(0, len(self._future), self._plan.window)):
            events = self._future[start : start + self._plan.window]
            answers = frozen.answers(events)
            served = answers if reader is frozen else reader.answers(events)
            self._record(version, served, events)
            told = {
                "accuracy": reader.share_right(served, events),
                "frozen_accuracy": frozen.share_right(answers, events),
                "oracle_accuracy": self._shared.oracle.accuracy(number, embeddings(answers), events),
            }
            self._window(version, events, told)
            if (champion := registry.champion(self._db, MODEL)) not in (version, None):
                version, reader = str(champion), self._reader(str(champion))
            self._progress(start + len(events), len(self._future), f"{version}, {len(self.tape.pages)} pages")

    def _reader(self, version: str) -> Reader:
        opened = open_version(registry.version_path(self._db, MODEL, version))
        first = version == self._shared.version
        return Reader(opened, self._shared.known, threads=self._settings.trainer.threads, first=first)

    def _record(self, version: str, answers: Sequence[Answer], events: Sequence[Event]) -> None:
        rows = [
            _prediction(f"{version}-{len(self.tape.windows)}-{number}", version, answer, event)
            for number, (answer, event) in enumerate(zip(answers, events, strict=True))
        ]
        with self._db.begin() as connection:
            store(connection, rows)
        self._due += [
            (event.at + self._plan.label_delay, row.id, event.label)
            for row, event in zip(rows, events, strict=True)
            if self._lots.random() < self._plan.label_rate
        ]

    def _window(self, version: str, events: Sequence[Event], told: dict[str, float]) -> None:
        now = events[-1].at
        due = [(id_, label) for at, id_, label in self._due if at <= now]
        self._due = [row for row in self._due if row[0] > now]
        outcomes = record_labels(self._db, due, source="backtest", now=now, learns=self._settings.learns)
        self.tape.labels.update(outcome.code or outcome.status for outcome in outcomes)
        result = run_check(
            self._db,
            self._settings.home,
            MODEL,
            self._settings.model(MODEL),
            self._settings.monitor,
            now=now,
        )
        self._fired(now)
        if result.job is not None or self._scheduled(now):
            self._retrain(now)
        self._now = now
        self.tape.windows.append(
            {
                "start": events[0].at,
                "end": now,
                "rows": len(events),
                **{name: round(value, 4) for name, value in told.items()},
                "version": version,
                "evidence": _evidence(result),
                "page": result.paged,
            }
        )

    def _scheduled(self, now: float) -> bool:
        """Ask for the retrain that fell due in this window; True where one was queued."""
        due = self._schedule.newest(self._now, now) if self._schedule is not None else None
        if due is None:
            return False
        settings = self._settings.model(MODEL)
        _, job = ask_retrain(
            self._db,
            MODEL,
            settings,
            self._settings.monitor,
            asked="schedule",
            key=f"{MODEL}@{due:.0f}",
            now=now,
        )
        return job is not None

    def _fired(self, now: float) -> None:
        query = select(episodes.c.cause).where(episodes.c.fired_at == now).order_by(episodes.c.id)
        with self._db.connect() as connection:
            self.tape.pages += [{"at": now, "cause": cause} for cause in connection.scalars(query)]

    def _retrain(self, now: float) -> None:
        started = time.perf_counter()
        job = self._run_job(now)
        verdict = job.verdict or {}
        self.tape.retrains.append(
            {
                "at": now,
                "trigger": job.trigger,
                "rung": self._plan.spec.fit.rung,
                "labels_used": verdict.get("labels_used", 0),
                "verdict": "promoted" if verdict.get("promote") else "refused",
                "reasons": verdict.get("reasons") or job.error,
                "seconds": round(time.perf_counter() - started, 2),
            }
        )

    def _run_job(self, now: float) -> Job:
        """Run the queued job here and now, as a worker would."""
        claimed = claim(self._db, "backtest", lease_s=_LEASE_S)
        assert claimed is not None
        shop = Workshop(
            db=self._db,
            home=self._settings.home,
            settings=self._settings.model(MODEL),
            monitor=self._settings.monitor,
            trainer=self._settings.trainer,
            now=now,
        )
        run_job(shop, claimed)
        job = list_jobs(self._db, MODEL, limit=1)[0]
        if job.state == "queued":  # its child died; there is nobody else to try again
            raise JobRefused(MODEL, str(job.error))
        return job


def _prediction(id_: str, version: str, answer: Answer, event: Event) -> Prediction:
    described = describe(event.text)
    return Prediction(
        id=id_,
        model=MODEL,
        version=version,
        role="champion",
        at=event.at,
        text=event.text,
        label=answer.label,
        score=answer.score,
        scores=answer.scores,
        embedding=answer.embedding,
        similarity=answer.similarity,
        tokens=answer.tokens,
        characters=len(event.text),
        truncated=answer.truncated,
        queue_ms=0.0,
        run_ms=0.0,
        metadata=dict(event.slices),
        descriptors=described.numbers,
        words=described.words,
    )


def _evidence(result: CheckResult) -> dict[str, Any]:
    found = {
        one.detector: {"effect": one.effect, "p_value": one.p_value, "log_e": one.log_e}
        for checked in result.checks
        for one in checked.evidence
        if one.enough
    }
    return found | {"log_e": next((one.log_e for one in reversed(result.checks)), None)}
