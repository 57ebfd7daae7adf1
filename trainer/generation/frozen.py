"""Frozen lower layers are computed once a row, not once an epoch: only the adapted layers are run again.

A row's states do not depend on what it shares a pack with (trainer.generation.packing), so they can be laid
out anew in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trainer.generation.packing import Pack, bucketed, pack
from trainer.generation.template import Tokens


def stack(model: Any) -> Any | None:
    """The module of a causal language model that holds `layers` and `norm`; None where it is unknown."""
    found = getattr(model, "model", None)
    return found if hasattr(found, "layers") and hasattr(found, "norm") else None


@contextmanager
def only(model: Any, layers: slice, *, normed: bool) -> Iterator[None]:
    """Run the model with a part of its layers: the upper ones read `inputs_embeds`."""
    import torch

    part = stack(model)
    assert part is not None
    whole, norm = part.layers, part.norm
    part.layers, part.norm = whole[layers], norm if normed else torch.nn.Identity()
    try:
        yield
    finally:
        part.layers, part.norm = whole, norm


def lower_states(model: Any, rows: Sequence[Tokens], first: int, *, pass_tokens: int) -> list[Any]:
    """What enters layer `first`, for every row: tensors [tokens, hidden]."""
    import torch

    found: list[Any] = [None] * len(rows)
    with torch.no_grad(), only(model, slice(0, first), normed=False):
        for batch in bucketed(rows, pass_tokens, range(len(rows))):
            laid = pack(rows, [[row] for row in batch])
            states = stack(model)(  # type: ignore[misc]  # `only` has checked it
                input_ids=torch.from_numpy(laid.ids),
                attention_mask=torch.from_numpy(laid.mask()),
                position_ids=torch.from_numpy(laid.positions),
                use_cache=False,
            ).last_hidden_state
            for line, row in enumerate(batch):
                found[row] = states[line, -len(rows[row].ids) :].clone()
    return found


def assembled(states: Sequence[Any], batch: Pack) -> Any:
    """The states of a pack's rows where its token numbers lie: tensor [lines, width, hidden]."""
    import torch

    lines = [torch.cat([states[row] for row in line]) for line in batch.rows]
    return torch.nn.utils.rnn.pad_sequence(lines, batch_first=True, padding_side="left")
