"""How to replay a history, and what all its replays share: the first version, its answers, the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine as Database

from exporter import registry
from exporter.database import open_database
from monitor.backtest.answers import Known, Reader, embeddings
from monitor.backtest.past import Event, HistoryError
from monitor.backtest.peers import Oracle
from monitor.backtest.tape import cpu_seconds
from monitor.config import Settings
from monitor.migrate import upgrade
from monitor.training import train_version
from trainer.artifact import open_version
from trainer.spec import TrainSpec

MODEL = "backtest"
Progress = Callable[[int, int, str], None]


def quiet(*_: object) -> None:
    """No progress."""


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
class Shared:
    """What every run over one history has in common: v1 and its answers, and the oracle."""

    home: Path  # with v1 trained and promoted; runs copy it
    version: str
    known: Known
    oracle: Oracle
    cpu_seconds: float


def prepare(events: Sequence[Event], plan: Plan, settings: Settings, *, progress: Progress = quiet) -> Shared:
    """Train and promote v1 on the past in `settings.home`. Raises HistoryError, TrainerError."""
    if len(events) < plan.train_rows + plan.window:
        problem = f"holds {len(events)} rows, fewer than --train-rows + --window"
        raise HistoryError(plan.history, None, problem)
    began = cpu_seconds()
    past = events[: plan.train_rows]
    progress(0, len(events) - len(past), "training v1")
    settings.home.mkdir(parents=True, exist_ok=True)
    db = open_database(settings.database_url)
    try:
        upgrade(db)
        version = _train(db, past, plan, settings)
        known, opened = Known(), open_version(registry.version_path(db, MODEL, version))
    finally:
        db.dispose()
    first = Reader(opened, known, threads=settings.trainer.threads, first=True)
    oracle = Oracle(embeddings(first.answers(past)), past, seed=plan.seed)
    spent = cpu_seconds() - began
    return Shared(home=settings.home, version=version, known=known, oracle=oracle, cpu_seconds=spent)


def _train(db: Database, past: Sequence[Event], plan: Plan, settings: Settings) -> str:
    file = settings.home / "past.jsonl"
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": one.text, "label": one.label}) + "\n" for one in past)
    data = plan.spec.data.model_copy(update={"train": file})
    version, _ = train_version(
        db,
        settings.home,
        plan.spec.model_copy(update={"data": data}),
        file,
        trainer=settings.trainer,
        progress=lambda _: None,
        now=past[-1].at,
    )
    registry.promote(db, MODEL, version, expected=None, reason="first version", actor="backtest")
    return version
