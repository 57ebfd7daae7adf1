"""The loop of every rung that moves an encoder: steps, validation, checkpoints, budget.

Everything that the next step depends on is a tensor or a number of the state that a checkpoint holds, so that
a resumed training ends with the very bits of one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from trainer.errors import BudgetError, PausedError
from trainer.fitting.checkpoint import Checkpoints, Facts, Tensors
from trainer.fitting.objective import Anchor, batch_loss, disagreement, optimiser, row_losses
from trainer.fitting.schedules import share
from trainer.fitting.table import FitTable
from trainer.fitting.trained import Trained
from trainer.tokens import shuffled

Array = np.ndarray[Any, np.dtype[Any]]
Tick = Callable[[int, int], None]  # (steps done, steps in all)
Track = Callable[[dict[str, float], int], None]  # (figures, step)


@dataclass(slots=True)
class Position:
    """How far a training is; every field is plain JSON."""

    step: int = 0
    best_step: int = 0
    best_loss: float | None = None  # of the validation part
    spent_s: float = 0.0
    done: bool = False
    stopped: str | None = None  # why before its last step: "budget", "patience"
    curve: list[dict[str, float]] = field(default_factory=list)  # one entry per epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which of the texts are learnt from and which choose; disjoint row numbers."""

    learnt: Array
    validation: Array


class Crew(Protocol):
    """Processes that compute the slopes of a batch together."""

    def backward(self, training: Training, batch: Array) -> float:
        """Leave the slopes of the whole batch at the weights; returns its loss."""
        ...


class Training:
    """One phase: the weights, their optimiser, and where it stands."""

    def __init__(
        self,
        trained: Trained,
        parts: Parts,
        fit: FitTable,
        *,
        rate: float,
        head_rows: Sequence[int] = (),
        crew: Crew | None = None,
    ) -> None:
        import torch

        self.trained, self.parts, self.fit, self.rate, self._crew = trained, parts, fit, rate, crew
        self.at = Position()
        self._anchor = Anchor(trained, fit.anchor, list(head_rows))
        self._optimiser = optimiser(trained, fit)
        self._truth = torch.from_numpy(trained.texts.truth)
        self._lengths = [len(trained.texts.ids[row]) for row in parts.learnt]
        self._best: Tensors = {}
        self.per_epoch = math.ceil(len(parts.learnt) / fit.batch_size)
        self.steps = self.per_epoch * fit.epochs
        torch.manual_seed(fit.seed)

    def batches(self) -> Iterator[Array]:
        """Row numbers of the batches to come; their order depends on seed and epoch alone."""
        for epoch in range(self.at.step // self.per_epoch, self.fit.epochs):
            order = shuffled(
                self._lengths, self.fit.batch_size, np.random.default_rng([self.fit.seed, epoch])
            )
            for batch in order[self.at.step % self.per_epoch :]:
                yield self.parts.learnt[batch]

    def step(self, batch: Array, rate: float) -> float:
        """Move every weight once; returns the batch's loss."""
        import torch

        self.trained.module.train()
        loss = self.backward(batch, of=len(batch)) if self._crew is None else self._crew.backward(self, batch)
        if self.fit.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.trained.tensors().values(), self.fit.clip_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        self._optimiser.step()
        self._optimiser.zero_grad()
        return loss

    def backward(self, rows: Array, *, of: int) -> float:
        """Add the slopes of `rows`, a share of a batch of so many; returns their share of its loss."""
        with autocast(self.fit):
            loss = self._loss(rows) * (len(rows) / of)
        (loss + self._anchor.penalty()).backward()
        return float(loss.detach())

    def _loss(self, rows: Array) -> Any:
        """Of one answer to each text, or of R-Drop's two (Wu et al. 2021, arXiv 2106.14448)."""
        fit, alpha = self.fit, self.fit.rdrop_alpha
        asked = np.concatenate([rows, rows]) if alpha else rows
        logits = self.trained.head(self.trained.embed(asked))
        loss = batch_loss(logits, self._truth[asked], fit.label_smoothing)
        return loss + alpha / 4 * disagreement(logits, sets=self._truth.ndim == 2) if alpha else loss

    def scheduled(self) -> float:
        """The rate of the next step."""
        fit = self.fit
        return self.rate * share(fit.schedule, self.at.step, self.steps, warm_up=fit.warm_up)

    def validate(self) -> float | None:
        """Loss on the validation part; its weights are kept where it is the lowest so far."""
        rows = self.parts.validation
        if not len(rows):
            return None
        loss = float(row_losses(self.trained.logits(rows), self.trained.texts.truth[rows]).mean())
        if self.at.best_loss is None or loss < self.at.best_loss:
            self.at.best_loss, self.at.best_step = loss, self.at.step
            self._best = {name: part.detach().clone() for name, part in self.trained.tensors().items()}
        return loss

    def restore_best(self) -> None:
        """Go back to the weights with the lowest validation loss, where there is a validation part."""
        for name, part in self.trained.tensors().items():
            if name in self._best:
                part.data.copy_(self._best[name])

    def state(self) -> tuple[Tensors, Facts]:
        """All that a later process needs to go on bit by bit."""
        import torch

        weights = {f"weights.{name}": part.detach() for name, part in self.trained.tensors().items()}
        best = {f"best.{name}": part for name, part in self._best.items()}
        moments = {
            f"moments.{name}.{key}": value
            for name, part in self.trained.tensors().items()
            for key, value in self._optimiser.state.get(part, {}).items()
        }
        return weights | best | moments | {"rng": torch.get_rng_state()}, asdict(self.at)

    def resume(self, tensors: Tensors, facts: Facts) -> None:
        """Stand where `state` stood."""
        import torch

        self.at = Position(**facts)
        self._best = {
            name.removeprefix("best."): part for name, part in tensors.items() if name.startswith("best.")
        }
        for name, part in self.trained.tensors().items():
            part.data.copy_(tensors[f"weights.{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            if f"moments.{name}.step" in tensors:
                self._optimiser.state[part] = {key: tensors[f"moments.{name}.{key}"] for key in keys}
        torch.set_rng_state(tensors["rng"])


def run(
    training: Training,
    *,
    checkpoints: Checkpoints,
    tick: Tick,
    track: Track,
    budget_s: float | None,
    clock: Callable[[], float],
) -> None:
    """Take every step that is left; the best weights stay.

    What `tick` raises ends it; PausedError only after a checkpoint. Raises BudgetError where the budget ends
    within the first step.
    """
    at, pace = training.at, _Pace(training.at.spent_s, clock)
    for batch in () if at.done else training.batches():
        loss = training.step(batch, training.scheduled())
        at.step, at.spent_s = at.step + 1, pace.spent()
        _end_of_epoch(training, loss, track)
        at.stopped = at.stopped or _over(at, training.steps, budget_s)
        if at.stopped:
            break
        _pause_safely(training, checkpoints, tick)
        if pace.due(training.fit.checkpoint_every_s):
            checkpoints.save(at.step, *training.state())
    _finish(training, checkpoints)


def autocast(fit: FitTable) -> AbstractContextManager[Any]:
    """bfloat16 where [fit] precision says so."""
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16) if fit.precision == "bf16" else nullcontext()


class _Pace:
    """Seconds of this training, those before a resume included, and since its last checkpoint."""

    def __init__(self, spent_s: float, clock: Callable[[], float]) -> None:
        self._clock, self._start = clock, clock() - spent_s
        self._saved = clock()

    def spent(self) -> float:
        return self._clock() - self._start

    def due(self, every_s: float) -> bool:
        if self._clock() - self._saved < every_s:
            return False
        self._saved = self._clock()
        return True


def _end_of_epoch(training: Training, loss: float, track: Track) -> None:
    at, fit = training.at, training.fit
    figures = {"loss": loss, "learning_rate": training.scheduled()}
    if at.step % training.per_epoch == 0:
        validation = training.validate()
        if validation is not None:
            figures["validation_loss"] = validation
            late = at.step - at.best_step >= fit.patience * training.per_epoch
            at.stopped = "patience" if fit.patience and late and at.step < training.steps else None
        at.curve.append({"step": at.step, **figures})
    track(figures, at.step)


def _over(at: Position, steps: int, budget_s: float | None) -> str | None:
    if budget_s is None or at.spent_s < budget_s or at.step >= steps:
        return None
    if at.step == 1:
        raise BudgetError(budget_s, at.spent_s)
    return "budget"


def _pause_safely(training: Training, checkpoints: Checkpoints, tick: Tick) -> None:
    try:
        tick(training.at.step, training.steps)
    except PausedError:
        checkpoints.save(training.at.step, *training.state())
        raise


def _finish(training: Training, checkpoints: Checkpoints) -> None:
    if training.at.done:
        training.restore_best()
        return
    if training.at.step % training.per_epoch:
        training.validate()
    training.at.done = True
    checkpoints.save(training.at.step, *training.state())
    training.restore_best()
