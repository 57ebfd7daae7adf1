"""The forward passes that become graphs: an encoder and the mean over each text's tokens."""

from __future__ import annotations

import inspect
from typing import Any

from trainer.attention import emit_packed
from trainer.encoder import first_position, pool, unit

PADDED_INPUTS = ("input_ids", "attention_mask")
PACKED_INPUTS = ("input_ids", "position_ids", "token_offset", "cu_seqlens")


def padded(encoder: Any, seen: dict[str, Any], *, plain: bool) -> Any:
    """Rows of one length and their mask → unit embeddings [rows, hidden]; `plain` with its own attention."""
    import torch

    class Padded(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            seen.clear()
            seen["mask"] = attention_mask.to(torch.int32)
            mask = attention_mask if plain else None
            given = _token_types(encoder, input_ids)
            hidden = self.encoder(input_ids=input_ids, attention_mask=mask, **given).last_hidden_state
            return pool(hidden, attention_mask)

    return Padded().eval()


def packed(encoder: Any, seen: dict[str, Any]) -> Any:
    """All tokens on one axis → unit embeddings [texts, hidden]."""
    import torch

    heads = encoder.config.num_attention_heads

    class Packed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, position_ids: Any, token_offset: Any, cu_seqlens: Any) -> Any:
            seen.clear()
            seen.update(offset=token_offset, ends=cu_seqlens)
            ids, places = input_ids[None], position_ids[None] + first_position(encoder.config)
            given = _token_types(encoder, ids)
            hidden = self.encoder(input_ids=ids, attention_mask=None, position_ids=places, **given)
            states = hidden.last_hidden_state[0]
            # Attention with a query of zeros weighs every token of its text alike: the mean, by the one
            # operator that keeps texts apart on the flat axis and sums each alike whatever is beside it.
            mean = emit_packed((states * 0.0, states, states), heads, 1.0, seen)
            return unit(mean.index_select(0, cu_seqlens[:-1].to(torch.int64))[:, None])

    return Packed().eval()


def padded_example() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs of `padded`, and which of their sizes may be others."""
    import torch

    rows, tokens = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("tokens", min=2, max=8192)
    example = torch.ones(2, 16, dtype=torch.long)
    return (example, example.clone()), {name: {0: rows, 1: tokens} for name in PADDED_INPUTS}


def packed_example() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs of `packed`, three texts of eight tokens, and which of their sizes may be others."""
    import torch

    dim = torch.export.Dim
    tokens = {0: dim("all_tokens", min=2, max=1 << 20)}
    example = (
        torch.ones(24, dtype=torch.long),
        torch.arange(24) % 8,
        torch.arange(24, dtype=torch.int32).view(3, 8),
        torch.arange(0, 25, 8, dtype=torch.int32),
    )
    offsets = {0: dim("texts", min=2, max=1 << 16), 1: dim("longest", min=2, max=8192)}
    ends = {0: dim("ends", min=3, max=(1 << 16) + 1)}
    return example, dict(zip(PACKED_INPUTS, (tokens, tokens, offsets, ends), strict=True))


def _token_types(encoder: Any, input_ids: Any) -> dict[str, Any]:
    """Zeros where the encoder knows types of tokens.

    Left out, BERT gathers zeros from a buffer: an operator that the optimiser's shape inference lacks.
    """
    import torch

    typed = "token_type_ids" in inspect.signature(encoder.forward).parameters
    return {"token_type_ids": torch.zeros_like(input_ids)} if typed else {}
