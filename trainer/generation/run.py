"""The steps of one fit: forward, backward, look, and all that a later process needs to go on bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.generation.frozen import assembled
from trainer.generation.loss import held_out_loss, token_losses
from trainer.generation.packing import pack
from trainer.generation.plan import Step, rate
from trainer.generation.settings import GenerationFit
from trainer.generation.template import Tokens

Tensors = dict[str, Any]
Facts = dict[str, Any]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of torch's AdamW


@dataclass(slots=True, kw_only=True)
class Run:
    """A fit on its way. `lower` are the frozen layers' states of training and held-out rows, if computed."""

    model: Any
    rows: Sequence[Tokens]
    held: Sequence[Tokens]
    fit: GenerationFit
    steps: int
    lower: tuple[list[Any], list[Any]] | None
    done: int = 0
    tokens: int = 0
    looked: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    weights: Tensors = field(init=False)
    _best: Tensors = field(default_factory=dict)
    _optimiser: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.weights = {name: part for name, part in self.model.named_parameters() if part.requires_grad}
        self._optimiser = torch.optim.AdamW(
            self.weights.values(), lr=self.fit.learning_rate, weight_decay=self.fit.weight_decay
        )

    def step(self, step: Step) -> float:
        """One update; returns the mean loss of its answers' tokens."""
        import torch

        batches = [pack(self.rows, lines) for lines in step]
        answers = sum(batch.answers for batch in batches)
        for group in self._optimiser.param_groups:
            group["lr"] = self.fit.learning_rate * rate(self.done, self.steps, self.fit.warm_up)
        self.model.train()
        self._optimiser.zero_grad()
        total = 0.0
        for batch in batches:
            if batch.answers:
                states = assembled(self.lower[0], batch) if self.lower else None
                loss = token_losses(self.model, batch, states).sum() / answers
                loss.backward()
                total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.fit.clip)
        self._optimiser.step()
        self.done += 1
        self.tokens += sum(len(self.rows[row].ids) for lines in step for line in lines for row in line)
        return total

    def look(self) -> float | None:
        """Loss of the held-out rows; the weights are kept where they are the best so far."""
        self.model.eval()
        found = held_out_loss(self.model, self.held, self.lower[1] if self.lower else None).loss
        if found is not None:
            if found < min((loss for _, loss in self.looked), default=float("inf")):
                self.best_step = self.done
                self._best = {name: part.detach().clone() for name, part in self.weights.items()}
            self.looked.append((self.done, found))
        return found

    def stale(self) -> bool:
        """Whether the last looks, as many as the patience, brought nothing."""
        if not self.fit.patience or self.best_step is None:
            return False
        return sum(step > self.best_step for step, _ in self.looked) >= self.fit.patience

    def end(self) -> None:
        """Go back to the best weights, where there were looks."""
        import torch

        with torch.no_grad():
            for name, kept in self._best.items():
                self.weights[name].copy_(kept)
        self.model.eval()

    def state(self) -> tuple[Tensors, Facts]:
        """Weights, the best ones, the optimiser's moments and the random state, and where the fit stands."""
        import torch

        tensors = {f"weights.{name}": part.detach() for name, part in self.weights.items()}
        tensors |= {f"best.{name}": part for name, part in self._best.items()}
        for name, part in self.weights.items():
            moments = self._optimiser.state.get(part, {})
            tensors |= {f"moments.{name}.{key}": moments[key] for key in MOMENTS if key in moments}
        facts = {
            "done": self.done,
            "tokens": self.tokens,
            "looked": self.looked,
            "best_step": self.best_step,
        }
        return tensors | {"rng": torch.get_rng_state()}, facts

    def resume(self, tensors: Tensors, facts: Facts) -> None:
        """Stand where `state` stood."""
        import torch

        self.done, self.tokens, self.best_step = facts["done"], facts["tokens"], facts["best_step"]
        self.looked = [(step, loss) for step, loss in facts["looked"]]
        with torch.no_grad():
            for name, part in self.weights.items():
                part.copy_(tensors[f"weights.{name}"])
                if f"best.{name}" in tensors:
                    self._best[name] = tensors[f"best.{name}"]
                if f"moments.{name}.step" in tensors:
                    moments = {key: tensors[f"moments.{name}.{key}"] for key in MOMENTS}
                    self._optimiser.state[part] = moments
        torch.set_rng_state(tensors["rng"])
