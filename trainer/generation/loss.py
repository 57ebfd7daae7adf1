"""The loss of answers under a decoder: what training lowers, and what held-out rows are measured by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.generation.frozen import assembled
from trainer.generation.packing import IGNORED, Pack, bucketed, pack
from trainer.generation.template import Tokens

Array = np.ndarray[Any, np.dtype[Any]]
PASS_TOKENS = 2048  # of a forward pass without gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLoss:
    """Mean negative log-likelihood of the learnt tokens, in nats; None where there are none."""

    loss: float | None
    tokens: int
    rows: int

    @property
    def perplexity(self) -> float | None:
        """exp(loss), at most 1e9.

        >>> HeldOutLoss(loss=0.0, tokens=3, rows=1).perplexity
        1.0
        """
        return None if self.loss is None else min(1e9, math.exp(min(self.loss, 50.0)))


def token_losses(model: Any, batch: Pack, states: Any = None) -> Any:
    """Loss of every place with a target, in reading order: float32 tensor [answers].

    Logits are computed only at the columns that are asked for: a vocabulary of 49,152 over all places would
    cost as much as a fourth of a small decoder. `states` [lines, width, hidden] stand in for token numbers.
    """
    import torch

    columns = torch.from_numpy(batch.asked)
    targets = torch.from_numpy(batch.targets)[:, columns]
    given = {"input_ids": torch.from_numpy(batch.ids)} if states is None else {"inputs_embeds": states}
    logits = model(
        **given,
        attention_mask=torch.from_numpy(batch.mask()),
        position_ids=torch.from_numpy(batch.positions),
        logits_to_keep=columns,
        use_cache=False,
    ).logits
    wanted = targets != IGNORED
    return torch.nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")


def row_losses(model: Any, rows: Sequence[Tokens], states: Sequence[Any] | None = None) -> Array:
    """(sum of losses, learnt tokens) of every row: float64 [rows, 2]."""
    import torch

    found: Array = np.zeros((len(rows), 2))
    with torch.inference_mode():
        for batch in bucketed(rows, PASS_TOKENS, range(len(rows))):
            laid = pack(rows, [[row] for row in batch])
            if laid.answers:
                lower = assembled(states, laid) if states is not None else None
                losses = token_losses(model, laid, lower).numpy()
                np.add.at(found, owners(laid), np.stack([losses, np.ones_like(losses)], axis=1))
    return found


def owners(batch: Pack) -> Array:
    """The row of every place with a target, in reading order: int64 [answers]."""
    lines, columns = np.nonzero(batch.targets != IGNORED)
    return np.array(
        [
            batch.rows[line][segment - 1]
            for line, segment in zip(lines, batch.segments[lines, columns], strict=True)
        ],
        dtype=np.int64,
    )


def held_out_loss(model: Any, rows: Sequence[Tokens], states: Sequence[Any] | None = None) -> HeldOutLoss:
    """Loss over all learnt tokens of `rows`; `states` as in `token_losses`, one tensor a row."""
    found = row_losses(model, rows, states)
    total, tokens = found.sum(axis=0) if len(found) else (0.0, 0)
    loss = float(total / tokens) if tokens else None
    return HeldOutLoss(loss=loss, tokens=int(tokens), rows=len(rows))
