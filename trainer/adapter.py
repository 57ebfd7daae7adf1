"""The second rung: LoRA on the top layers, over cached states of the frozen layers below, merged at the end.

fp32 throughout: bf16 autocast took twice the time on a processor whose flags promise it (avx512_bf16 without
AMX), and choosing by a timing would make two runs with one seed differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.encoder import ROWS, Embedded, Tick, layers, pool
from trainer.errors import BaseModelError
from trainer.head import Head
from trainer.spec import FitTable
from trainer.tokens import by_length, padded, shuffled

Array = np.ndarray[Any, np.dtype[Any]]

PROJECTIONS = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv", "qkv_proj")
HEAD_RATE = 5.0  # the head starts well but its weights are ten times larger than an adapter's
WARM_UP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Token numbers, label numbers [rows] and what the frozen encoder made of the texts."""

    ids: list[list[int]]
    truth: Array
    frozen: Embedded


def first_trained(model: Any, fit: FitTable) -> int | None:
    """Number of the lowest layer that carries an adapter; None where layers cannot be told apart.

    The layers below it are frozen, so what enters it is computed once.
    """
    found = layers(model)
    return None if found is None else max(0, len(found) - fit.lora_layers)


def fit_adapter(model: Any, head: Head, texts: Texts, fit: FitTable, *, tick: Tick) -> tuple[Head, Array]:
    """Train in place; returns the new head and the embeddings [rows, hidden] of the texts.

    Raises BaseModelError where the encoder has no known attention projections.
    """
    import torch

    torch.manual_seed(fit.seed)
    trained = _Trained(model, texts, first_trained(model, fit))
    adapted = _with_adapters(trained.module, fit)
    linear = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0])
    linear.weight.data, linear.bias.data = torch.tensor(head.weight), torch.tensor(head.bias)
    _set_dropout(trained.module, fit.dropout)
    _loop(trained, linear, texts, fit, tick)
    merged = adapted.merge_and_unload()
    merged.eval().requires_grad_(False)
    weight, bias = linear.weight.detach().numpy().copy(), linear.bias.detach().numpy().copy()
    return Head(weight=weight, bias=bias), trained.embeddings()


class _Trained:
    """The part of an encoder that is trained, and how to run it on rows of the training texts."""

    def __init__(self, model: Any, texts: Texts, first: int | None) -> None:
        import torch

        self.texts = texts
        self.whole = model if first is None else None
        self.module = model
        if first is not None:
            self.module = torch.nn.Module()
            self.module.layer = layers(model)[first:]  # type: ignore[index]

    def embed(self, rows: Sequence[int] | Array) -> Any:
        """Unit embeddings [rows, hidden], with gradients where adapters are."""
        import torch

        tokens, mask = map(torch.from_numpy, padded([self.texts.ids[i] for i in rows]))
        if self.whole is not None:
            return pool(self.whole(input_ids=tokens, attention_mask=mask).last_hidden_state, mask)
        states = torch.nn.utils.rnn.pad_sequence(
            [self.texts.frozen.hidden[i] for i in rows], batch_first=True
        ).float()
        seen = None if bool(mask.all()) else mask[:, None, None, :].bool()
        for layer in self.module.layer:
            states = layer(states, seen)
        return pool(states, mask)

    def embeddings(self) -> Array:
        """Embeddings of every row, without dropout."""
        import torch

        self.module.eval()
        hidden = self.texts.frozen.embeddings.shape[1]
        result: Array = np.zeros((len(self.texts.ids), hidden), dtype=np.float32)
        with torch.no_grad():
            for batch in by_length([len(row) for row in self.texts.ids], ROWS):
                result[batch] = self.embed(batch).numpy()
        return result


def _with_adapters(module: Any, fit: FitTable) -> Any:
    import peft

    found = {name.rpartition(".")[2] for name, _ in module.named_modules()}
    targets = sorted(found & set(PROJECTIONS))
    if not targets:
        why = "none of its parts is a known attention projection"
        raise BaseModelError(type(module).__name__, why, 'Use [fit] rung = "head".')
    config = peft.LoraConfig(r=fit.lora_rank, lora_alpha=2 * fit.lora_rank, target_modules=targets)
    return peft.get_peft_model(module, config)


def _set_dropout(module: Any, share: float) -> None:
    import torch

    module.train()
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share


def _loop(trained: _Trained, linear: Any, texts: Texts, fit: FitTable, tick: Tick) -> None:
    """AdamW over shuffled batches of like length; the rate warms up, then falls to zero."""
    import torch

    adapters = [part for part in trained.module.parameters() if part.requires_grad]
    groups = [
        {"params": adapters, "lr": fit.learning_rate},
        {"params": list(linear.parameters()), "lr": fit.learning_rate * HEAD_RATE},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=fit.weight_decay)
    steps = fit.epochs * math.ceil(len(texts.ids) / fit.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    rng, truth, step = np.random.default_rng(fit.seed), torch.from_numpy(texts.truth), 0
    lengths = [len(row) for row in texts.ids]
    for _ in range(fit.epochs):
        for batch in shuffled(lengths, fit.batch_size, rng):
            loss = torch.nn.functional.cross_entropy(linear(trained.embed(batch)), truth[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
            tick(step, max(step, steps))


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step.

    >>> [_rate(step, 20) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    warm = max(1.0, WARM_UP * steps)
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1.0, steps - warm)))
