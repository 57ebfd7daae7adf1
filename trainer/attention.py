"""Attention as one operator of ONNX Runtime, for any encoder of transformers' attention interface.

`mha` is com.microsoft::MultiHeadAttention over padded rows, which every provider of ONNX Runtime has;
`packed` is com.microsoft::PackedMultiHeadAttention over a flat axis of tokens, which only CUDA has. Layers
that look no further than a window around each token (ModernBERT's) get it as a bias on q's products with k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

Operator = Literal["mha", "packed"]
FAR = -1e4  # added to a product beyond the window; half precision holds it, and its exponential is zero
PREFIX = "trueup_"


def register(operator: Operator, seen: dict[str, Any]) -> str:
    """Teach transformers the operator; the name to set as attention implementation.

    Before each forward pass the module that is exported puts into `seen` what the operator needs beside q, k
    and v: `mask` int32 [rows, tokens], or `offset` int32 [texts, longest] and `ends` int32 [texts + 1].
    """
    from transformers import AttentionInterface

    name = PREFIX + operator
    AttentionInterface.register(name, _mha(seen) if operator == "mha" else _packed(seen))
    return name


def emit_mha(parts: tuple[Any, Any, Any], heads: int, scale: float, mask: Any, bias: Any = None) -> Any:
    """The padded operator on q, k, v [rows, tokens, heads * width]."""
    import torch

    return torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (*parts, None, mask, bias),
        attrs={"num_heads": heads, "scale": scale},
        dtype=parts[0].dtype,
        shape=parts[2].shape,
        version=1,
    )


def emit_packed(
    parts: tuple[Any, Any, Any], heads: int, scale: float, seen: dict[str, Any], bias: Any = None
) -> Any:
    """The packed operator on q, k, v [tokens, heads * width]."""
    import torch

    return torch.onnx.ops.symbolic(
        "com.microsoft::PackedMultiHeadAttention",
        (*parts, None, seen["offset"], seen["ends"], bias),
        attrs={"num_heads": heads, "scale": scale},
        dtype=parts[0].dtype,
        shape=parts[2].shape,
        version=1,
    )


def _mha(seen: dict[str, Any]) -> Callable[..., Any]:
    def attend(layer: Any, q: Any, k: Any, v: Any, _: Any, scaling: float | None = None, **more: Any) -> Any:
        rows, heads, tokens, width = q.shape
        parts = tuple(part.transpose(1, 2).reshape(rows, tokens, heads * width) for part in (q, k, v))
        bias = _window(layer, tokens, seen) if more.get("sliding_window") is not None else None
        out = emit_mha(parts, heads, float(scaling or width**-0.5), seen["mask"], bias)
        return out.view(rows, tokens, heads, width), None

    return attend


def _packed(seen: dict[str, Any]) -> Callable[..., Any]:
    def attend(layer: Any, q: Any, k: Any, v: Any, _: Any, scaling: float | None = None, **more: Any) -> Any:
        _, heads, tokens, width = q.shape  # all texts are one row
        parts = tuple(part.transpose(1, 2).reshape(tokens, heads * width) for part in (q, k, v))
        longest = seen["offset"].shape[1]
        bias = _window(layer, longest, seen) if more.get("sliding_window") is not None else None
        out = emit_packed(parts, heads, float(scaling or width**-0.5), seen, bias)
        return out.view(1, tokens, heads, width), None

    return attend


def _window(layer: Any, tokens: Any, seen: dict[str, Any]) -> Any:
    """FAR where two of `tokens` places lie further apart than the window, [1, 1, tokens, tokens].

    transformers hands its attention functions one more than the configuration says, for kernels that count
    to an open end; its masks, which the trained model saw, go by the configuration.
    """
    import torch

    window = layer.config.sliding_window
    name = f"window {window}"
    if name not in seen:
        place = torch.arange(tokens)
        apart = (place[:, None] - place[None]).abs() > window
        seen[name] = (apart.to(torch.float32) * FAR)[None, None]
    return seen[name]
