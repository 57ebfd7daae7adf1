"""Fitting an adapter to answers: AdamW over planned steps, looks at held-out rows, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.errors import PausedError
from trainer.fit import use_threads
from trainer.generation.decoder import Decoder
from trainer.generation.errors import DivergedError, NothingToLearnError
from trainer.generation.frozen import lower_states, only, stack
from trainer.generation.plan import Step, plan
from trainer.generation.run import Facts, Run, Tensors
from trainer.generation.settings import GenerationFit
from trainer.generation.template import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Where a fit stands after a step; losses in nats a token, `eta_s` seconds to the last step."""

    step: int
    steps: int
    loss: float
    held_out: float | None
    tokens: int  # so far, without padding
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a fit did; `best` is the step whose weights the decoder has now."""

    steps: int
    best: int
    held_out: list[tuple[int, float]]  # (step, loss)
    tokens: int
    stopped_early: bool


class Checkpoints(Protocol):
    """Where the state of a fit is kept; what is read must be whole and of the same rows and settings."""

    def newest(self) -> tuple[Tensors, Facts] | None:
        """The newest state, None where there is none."""
        ...

    def save(self, step: int, tensors: Tensors, facts: Facts) -> None:
        """Keep a state: safetensors and JSON can hold it."""
        ...


Watch = Callable[[Moment], None]


def fit_adapter(
    decoder: Decoder,
    rows: Sequence[Tokens],
    held_out: Sequence[Tokens],
    fit: GenerationFit,
    *,
    watch: Watch = lambda _: None,
    checkpoints: Checkpoints | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Fit:
    """Train the decoder's adapter in place; the same rows, settings and seed give the same weights.

    Without held-out rows nothing stops it early and the last weights stay. With `checkpoints` it goes on from
    the newest one, to the weights that it would have had undisturbed.
    Raises NothingToLearnError, DivergedError.
    """
    import torch

    if not sum(row.answers for row in rows):
        raise NothingToLearnError(len(rows))
    use_threads(fit.threads)
    torch.manual_seed(fit.seed)
    model, steps = decoder.model.get_base_model(), plan(rows, fit)
    lower, part = _split(model, rows, held_out, fit)
    run = Run(model=model, rows=rows, held=held_out, fit=fit, steps=len(steps), lower=lower)
    kept = checkpoints.newest() if checkpoints is not None else None
    if kept is not None:
        run.resume(*kept)
    with part:
        _through(run, steps, watch, checkpoints, clock)
        run.end()
    return Fit(
        steps=run.done,
        best=run.done if run.best_step is None else run.best_step,
        held_out=run.looked,
        tokens=run.tokens,
        stopped_early=run.done < len(steps),
    )


def _through(
    run: Run,
    steps: Sequence[Step],
    watch: Watch,
    checkpoints: Checkpoints | None,
    clock: Callable[[], float],
) -> None:
    looks = _looks(len(steps), run.fit.looks) if run.held else set()
    began, first = clock(), run.done
    for step in steps[first:]:
        if run.stale():
            return
        loss = run.step(step)
        if not math.isfinite(loss):
            raise DivergedError(run.done, run.fit.learning_rate)
        seen = run.look() if run.done in looks else None
        if checkpoints is not None and (run.done % run.fit.checkpoint_steps == 0 or run.done == len(steps)):
            checkpoints.save(run.done, *run.state())
        eta = (clock() - began) / (run.done - first) * (len(steps) - run.done)
        moment = Moment(
            step=run.done, steps=len(steps), loss=loss, held_out=seen, tokens=run.tokens, eta_s=eta
        )
        try:
            watch(moment)
        except PausedError:
            if checkpoints is not None:
                checkpoints.save(run.done, *run.state())
            raise


def _split(
    model: Any, rows: Sequence[Tokens], held_out: Sequence[Tokens], fit: GenerationFit
) -> tuple[tuple[list[Any], list[Any]] | None, AbstractContextManager[None]]:
    """(states below the adapters, a context with only the layers above); None and all where not apart."""
    part = stack(model)
    first = 0 if fit.lora_layers is None or part is None else max(0, len(part.layers) - fit.lora_layers)
    if not first:
        return None, nullcontext()
    trained, held = (
        lower_states(model, given, first, pass_tokens=fit.pass_tokens) for given in (rows, held_out)
    )
    return (trained, held), only(model, slice(first, None), normed=True)


def _looks(steps: int, looks: int) -> set[int]:
    """Steps after which the held-out rows are looked at, the last included.

    >>> sorted(_looks(10, 4))
    [3, 5, 8, 10]
    """
    return {-(-steps * look // looks) for look in range(1, looks + 1)}
