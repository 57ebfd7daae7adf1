"""What a padding-free graph answers, computed where its attention has no kernel: on a processor.

Each com.microsoft::PackedMultiHeadAttention becomes what its specification says, in operators that processors
have: tokens go back to padded rows by `token_offset`, com.microsoft::MultiHeadAttention sees as many keys as
`cu_seqlens` counts, and the tokens are gathered again. Everything else is the graph that CUDA runs, half
precision included. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.graph import Graph
from trainer.qkv import PACKED
from trainer.tokens import packed

Array = np.ndarray[Any, np.dtype[Any]]
OFFSET, ENDS = "token_offset", "cu_seqlens"
NAMES = ("input_ids", "position_ids", OFFSET, ENDS)


class PackedReference:
    """A packed graph of `trainer.export` on the processor."""

    def __init__(self, content: bytes, *, threads: int) -> None:
        self._graph = Graph(on_processor(content), threads=threads)

    def run(self, ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """(logits [texts, labels], embedding [texts, hidden]) of one batch."""
        return self._graph.feed(dict(zip(NAMES, packed(ids), strict=True)))


def on_processor(content: bytes) -> bytes:
    """The graph with every packed attention spelt out."""
    import onnx

    model = onnx.load_model_from_string(content)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.initializer.extend(_constants())
    model.graph.node.extend(_shared())
    for node in nodes:
        model.graph.node.extend(_spelt_out(node) if node.op_type == PACKED else [node])
    spelt: bytes = model.SerializeToString()
    return spelt


def _node(operator: str, inputs: list[str], output: str, **more: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], **more)


def _constants() -> list[Any]:
    from onnx import numpy_helper

    given = {"ref_zero": [0], "ref_one": [1], "ref_minus": [-1], "ref_many": [2**31 - 1]}
    return [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in given.items()]


def _shared() -> list[Any]:
    """Places of the tokens in padded rows, int64 [tokens] and [tokens, 1]; lengths int32 [texts]."""
    return [
        _node("Shape", [OFFSET], "ref_rows"),
        _node("ReduceProd", ["ref_rows"], "ref_places", keepdims=1),
        _node("Reshape", [OFFSET, "ref_minus"], "ref_order"),
        _node("Shape", ["input_ids"], "ref_tokens"),
        _node("Slice", ["ref_order", "ref_zero", "ref_tokens"], "ref_kept32"),
        _node("Cast", ["ref_kept32"], "ref_kept", to=7),
        _node("Unsqueeze", ["ref_kept", "ref_one"], "ref_kept2"),
        _node("Slice", [ENDS, "ref_one", "ref_many"], "ref_ends"),
        _node("Slice", [ENDS, "ref_zero", "ref_minus"], "ref_starts"),
        _node("Sub", ["ref_ends", "ref_starts"], "ref_lengths"),
    ]


def _spelt_out(node: Any) -> list[Any]:
    query, key, value, bias = node.input[:4]
    own = node.output[0]
    made = []
    if not key:  # one product for all three, [tokens, heads, 3, width]
        parts = [f"{own}_{part}" for part in "qkv"]
        made += _split(query, own, parts)
        query, key, value = parts
    rows = [f"{own}_{part}_rows" for part in "qkv"]
    for flat, padded in zip((query, key, value), rows, strict=True):
        made += _padded(flat, padded)
    window = node.input[6] if len(node.input) > 6 else ""
    single = {name: f"{own}_single{number}" for number, name in enumerate((bias, window)) if name}
    made += [_node("Cast", [name], cast, to=1) for name, cast in single.items()]
    inputs = [*rows, single.get(bias, ""), "ref_lengths", single.get(window, "")]
    made.append(_node("MultiHeadAttention", inputs, f"{own}_mha", domain="com.microsoft"))
    made[-1].attribute.extend(node.attribute)
    made += _flat(f"{own}_mha", own, like=query)
    return made


def _split(joined: str, own: str, parts: list[str]) -> list[Any]:
    from onnx import helper

    pieces = [f"{part}_piece" for part in parts]
    made = [helper.make_node("Split", [joined], pieces, axis=2, num_outputs=3)]
    made.append(_node("Concat", ["ref_tokens", "ref_minus"], f"{own}_flat_shape", axis=0))
    for piece, part in zip(pieces, parts, strict=True):
        made.append(_node("Reshape", [piece, f"{own}_flat_shape"], part))
    return made


def _padded(flat: str, out: str) -> list[Any]:
    """Tokens [tokens, width] into rows [texts, longest, width] of zeros, in single precision."""
    return [
        _node("Cast", [flat], f"{out}_single", to=1),
        _node("Shape", [flat], f"{out}_shape"),
        _node("Slice", [f"{out}_shape", "ref_one", "ref_many"], f"{out}_width"),
        _node("Concat", ["ref_places", f"{out}_width"], f"{out}_size", axis=0),
        _node("ConstantOfShape", [f"{out}_size"], f"{out}_empty"),
        _node("ScatterND", [f"{out}_empty", "ref_kept2", f"{out}_single"], f"{out}_full"),
        _node("Concat", ["ref_rows", f"{out}_width"], f"{out}_rows", axis=0),
        _node("Reshape", [f"{out}_full", f"{out}_rows"], out),
    ]


def _flat(rows: str, out: str, *, like: str) -> list[Any]:
    """The way back, in the precision of `like`."""
    return [
        _node("Shape", [rows], f"{out}_shape"),
        _node("Slice", [f"{out}_shape", "ref_minus", "ref_many"], f"{out}_width"),
        _node("Concat", ["ref_places", f"{out}_width"], f"{out}_size", axis=0),
        _node("Reshape", [rows, f"{out}_size"], f"{out}_places"),
        _node("Gather", [f"{out}_places", "ref_kept"], f"{out}_tokens", axis=0),
        _node("CastLike", [f"{out}_tokens", like], out),
    ]
