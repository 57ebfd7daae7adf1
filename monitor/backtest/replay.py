"""Replay of a history: serve, record, label, check, retrain, promote, window by window on virtual time."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine as Database
from sqlalchemy import select

from exporter import registry
from exporter.database import open_database
from exporter.engines import Answer, Engine, open_engine
from exporter.labels import record_labels
from exporter.loader import store
from exporter.prediction import Prediction
from monitor.backtest.past import Event, HistoryError
from monitor.backtest.peers import Oracle, embeddings, share_right
from monitor.check import CheckResult, run_check
from monitor.config import Settings
from monitor.jobs import Job, JobRefused, claim, list_jobs
from monitor.migrate import upgrade
from monitor.retrain import Workshop, run_job
from monitor.tables import episodes
from monitor.training import train_version
from trainer.artifact import open_version
from trainer.spec import TrainSpec

MODEL = "backtest"
_LEASE_S = 3600.0
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to replay. `label_delay` in seconds, `label_rate` in [0, 1]."""

    history: Path
    train_rows: int
    window: int
    label_delay: float
    label_rate: float
    spec: TrainSpec
    seed: int


@dataclass(slots=True, kw_only=True)
class Tape:
    """What happened, in the shape that `trueup backtest --json` prints."""

    windows: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    retrains: list[dict[str, Any]] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)


def replay(events: Sequence[Event], plan: Plan, settings: Settings, *, progress: Progress) -> dict[str, Any]:
    """Run the whole history in `settings.home` and return the document."""
    started = time.perf_counter()
    if len(events) < plan.train_rows + plan.window:
        raise HistoryError(
            plan.history, None, f"holds {len(events)} rows, fewer than --train-rows + --window"
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    db = open_database(settings.database_url)
    try:
        upgrade(db)
        loop = Loop(db, events, plan, settings, progress)
        loop.run()
        return _document(loop.tape, rows=len(events), seconds=time.perf_counter() - started)
    finally:
        db.dispose()


class Loop:
    """The production loop with the HTTP left out and the clock in its hand."""

    def __init__(
        self, db: Database, events: Sequence[Event], plan: Plan, settings: Settings, progress: Progress
    ) -> None:
        self._db, self._plan, self._settings, self._progress = db, plan, settings, progress
        self._past, self._future = events[: plan.train_rows], events[plan.train_rows :]
        self._lots = random.Random(plan.seed)  # noqa: S311 -- which rows get a label
        self._due: list[tuple[float, str, str]] = []
        self.tape = Tape()

    def run(self) -> None:
        """Train v1 on the past, then replay the future."""
        self._progress(0, len(self._future), "training v1")
        version = self._train()
        frozen = self._engine(version)
        engine = frozen
        oracle = Oracle(
            embeddings(frozen.run([one.text for one in self._past])), self._past, seed=self._plan.seed
        )
        for start in range(0, len(self._future), self._plan.window):
            events = self._future[start : start + self._plan.window]
            answers = frozen.run([one.text for one in events])
            self.tape.oracle.append(oracle.accuracy(embeddings(answers), events))
            served = answers if engine is frozen else engine.run([one.text for one in events])
            self._record(version, engine, served, events)
            self._window(
                version, events, share_right(engine, served, events), share_right(frozen, answers, events)
            )
            if (champion := registry.champion(self._db, MODEL)) not in (version, None):
                version, engine = str(champion), self._engine(str(champion))
            self._progress(start + len(events), len(self._future), f"{version}, {len(self.tape.pages)} pages")

    def _train(self) -> str:
        file = self._settings.home / "past.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps({"text": one.text, "label": one.label}) + "\n" for one in self._past)
        data = self._plan.spec.data.model_copy(update={"train": file})
        version, _ = train_version(
            self._db,
            self._settings.home,
            self._plan.spec.model_copy(update={"data": data}),
            file,
            trainer=self._settings.trainer,
            progress=lambda _: None,
            now=self._past[-1].at,
        )
        registry.promote(self._db, MODEL, version, expected=None, reason="first version", actor="backtest")
        return version

    def _engine(self, version: str) -> Engine:
        path = registry.version_path(self._db, MODEL, version)
        return open_engine(open_version(path), threads=self._settings.trainer.threads)

    def _record(
        self, version: str, engine: Engine, answers: Sequence[Answer], events: Sequence[Event]
    ) -> None:
        rows = [
            _prediction(f"{version}-{len(self.tape.windows)}-{number}", version, engine, answer, event)
            for number, (answer, event) in enumerate(zip(answers, events, strict=True))
        ]
        with self._db.begin() as connection:
            store(connection, rows)
        self._due += [
            (event.at + self._plan.label_delay, row.id, event.label)
            for row, event in zip(rows, events, strict=True)
            if self._lots.random() < self._plan.label_rate
        ]

    def _window(self, version: str, events: Sequence[Event], accuracy: float, frozen: float) -> None:
        now = events[-1].at
        due = [(id_, label) for at, id_, label in self._due if at <= now]
        self._due = [row for row in self._due if row[0] > now]
        record_labels(self._db, due, source="backtest", now=now)
        result = run_check(
            self._db,
            self._settings.home,
            MODEL,
            self._settings.model(MODEL),
            self._settings.monitor,
            now=now,
        )
        self._fired(now)
        if result.job is not None:
            self._retrain(now)
        self.tape.windows.append(
            {
                "start": events[0].at,
                "end": now,
                "rows": len(events),
                "accuracy": round(accuracy, 4),
                "frozen_accuracy": round(frozen, 4),
                "oracle_accuracy": round(self.tape.oracle[-1], 4),
                "version": version,
                "evidence": _evidence(result),
                "page": result.paged,
            }
        )

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


def _prediction(id_: str, version: str, engine: Engine, answer: Answer, event: Event) -> Prediction:
    return Prediction(
        id=id_,
        model=MODEL,
        version=version,
        role="champion",
        at=event.at,
        text=event.text,
        label=engine.labels[answer.label_index],
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
    )


def _evidence(result: CheckResult) -> dict[str, Any]:
    found = {
        one.detector: {"effect": one.effect, "p_value": one.p_value, "log_e": one.log_e}
        for checked in result.checks
        for one in checked.evidence
        if one.enough
    }
    return found | {"log_e": next((one.log_e for one in reversed(result.checks)), None)}


def _document(tape: Tape, *, rows: int, seconds: float) -> dict[str, Any]:
    weights = [window["rows"] for window in tape.windows]

    def mean(name: str) -> float:
        return round(float(np.average([window[name] for window in tape.windows], weights=weights)), 4)

    return {
        "windows": tape.windows,
        "pages": tape.pages,
        "retrains": tape.retrains,
        "summary": {
            "rows": rows,
            "mean_accuracy": mean("accuracy"),
            "frozen_mean_accuracy": mean("frozen_accuracy"),
            "oracle_mean_accuracy": mean("oracle_accuracy"),
            "pages": len(tape.pages),
            "retrains": len(tape.retrains),
            "labels_used": sum(retrain["labels_used"] for retrain in tape.retrains),
            "seconds": round(seconds, 1),
        },
    }
