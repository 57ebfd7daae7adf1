"""One rung of one training: first weights, learning rate, steps, and what they came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.fitting.checkpoint import Checkpoints, Facts, Identity
from trainer.fitting.fleet import fleet
from trainer.fitting.loop import Parts, Training, run
from trainer.fitting.objective import right, row_losses
from trainer.fitting.rate import range_test
from trainer.fitting.report import figures
from trainer.fitting.table import Deep, FitTable
from trainer.fitting.trackers import Track
from trainer.fitting.trained import Texts, Trained
from trainer.fitting.weights import Start
from trainer.head import Head

Array = np.ndarray[Any, np.dtype[Any]]
Say = Callable[[int, int, str], None]  # steps done, steps in all, what


@dataclass(slots=True, kw_only=True)
class Work:
    """What every rung of one training shares; `spent_s` grows with each."""

    fit: FitTable
    start: Start
    texts: Texts
    parts: Parts
    head: Head
    head_rows: list[int]
    folder: Path
    identity: Identity
    say: Say
    track: Track
    clock: Callable[[], float]
    spent_s: float = 0.0

    def left_s(self) -> float | None:
        """Seconds of the budget that are left, None where there is none."""
        return None if self.fit.budget_s is None else self.fit.budget_s - self.spent_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A rung that was trained; `right` [validation rows], `sweep` of the learning rate if there was one."""

    trained: Trained
    report: Facts
    right: Array
    sweep: Facts | None


def train_rung(work: Work, rung: Deep, fit: FitTable, name: str) -> Outcome:
    """Train `rung` with `fit` over the checkpoints of `name`, or take up what they say was trained."""
    trained = Trained(work.start.encoder(), work.head, work.texts, fit, rung)
    checkpoints = Checkpoints(work.folder / name, work.identity)
    beside = work.folder / name / "fleet"
    with fleet(beside, work.start, work.head, work.texts, fit, rung) as crew:

        def at_rate(rate: float) -> Training:
            return Training(trained, work.parts, fit, rate=rate, head_rows=work.head_rows, crew=crew)

        rate, sweep = _rate(work, at_rate, fit, checkpoints)
        training = at_rate(rate)
        _resume(work, training, checkpoints, name)
        run(
            training,
            checkpoints=checkpoints,
            tick=lambda done, of: work.say(done, of, name),
            track=work.track,
            budget_s=work.left_s(),
            clock=work.clock,
        )
    at = training.at
    if at.stopped:
        work.say(
            at.step, training.steps, f"{name}: {at.stopped} reached, step {at.best_step or at.step} kept"
        )
    work.spent_s += at.spent_s
    return _outcome(work, training, checkpoints, sweep)


def _resume(work: Work, training: Training, checkpoints: Checkpoints, name: str) -> None:
    found = checkpoints.newest()
    if found is not None:
        training.resume(*found)
    torn = f", {len(checkpoints.torn)} torn checkpoints skipped" if checkpoints.torn else ""
    if found is not None or torn:
        work.say(training.at.step, training.steps, f"{name}: resumed at step {training.at.step}{torn}")


def _rate(
    work: Work, at_rate: Callable[[float], Training], fit: FitTable, checkpoints: Checkpoints
) -> tuple[float, Facts | None]:
    if isinstance(fit.learning_rate, float):
        return fit.learning_rate, None
    work.say(0, 1, "learning rate")
    losses = row_losses(work.head.logits(work.texts.frozen.embeddings), work.texts.truth)
    sweep = checkpoints.remembered("learning-rate", lambda: range_test(at_rate(0.0), frozen=losses))
    return float(sweep["chosen"]), sweep


def _outcome(work: Work, training: Training, checkpoints: Checkpoints, sweep: Facts | None) -> Outcome:
    rows, at = work.parts.validation, training.at
    logits = training.trained.logits(rows)
    hits = right(logits, work.texts.truth[rows])
    report: Facts = {
        "rung": training.trained.rung,
        "learning_rate": training.rate,
        "steps": at.step,
        "steps_planned": training.steps,
        "seconds": round(at.spent_s, 3),
        "precision": work.fit.precision,
        "trained_parameters": sum(part.numel() for part in training.trained.tensors().values()),
        "stopped": at.stopped,
        "kept_step": at.best_step if len(rows) else at.step,
        "torn_checkpoints": checkpoints.torn,
        "curve": at.curve,
    }
    if len(rows):
        loss = float(row_losses(logits, work.texts.truth[rows]).mean())
        report["validation"] = figures(hits, loss)
    if sweep is not None:
        report["range_test"] = {key: sweep[key] for key in ("chosen", "why", "steps")}
    return Outcome(trained=training.trained, report=report, right=hits, sweep=sweep)
