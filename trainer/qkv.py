"""One product for q, k and v of an exported graph: one pass over the hidden states instead of three."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
PACKED = "PackedMultiHeadAttention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """states @ weight + bias, and the nodes that compute it; float32 [hidden, width] and [width]."""

    states: str
    weight: Array
    bias: Array
    nodes: list[Any]


def fuse_qkv(graph: Any) -> int:
    """Give every packed attention its q, k and v as [tokens, heads, 3, width] of one product.

    Returns how many. The biases go to the operator, which adds them on the way; outside they cost a pass of
    their own. An attention whose q and k are turned after their projection (rotary positions) stays as it is.
    """
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    fused = 0
    for node in [one for one in graph.node if one.op_type == PACKED and not one.input[3]]:
        found = [_projection(name, makers, weights) for name in node.input[:3]]
        three = [one for one in found if one is not None]
        if len(three) == 3 and len({one.states for one in three}) == 1:
            _replace(graph, node, three)
            fused += 1
    _prune(graph)
    return fused


def _projection(name: str, makers: dict[str, Any], weights: dict[str, Any]) -> Projection | None:
    """The linear layer whose output, reshaped or not, is `name`."""
    from onnx import numpy_helper

    nodes = []
    node = makers.get(name)
    while node is not None and node.op_type == "Reshape":
        nodes.append(node)
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Add":
        return None
    biases = [one for one in node.input if one in weights]
    products = [makers[one] for one in node.input if one in makers and makers[one].op_type == "MatMul"]
    if len(biases) != 1 or len(products) != 1 or products[0].input[1] not in weights:
        return None
    return Projection(
        states=products[0].input[0],
        weight=numpy_helper.to_array(weights[products[0].input[1]]),
        bias=numpy_helper.to_array(weights[biases[0]]),
        nodes=[*nodes, node, products[0]],
    )


def _replace(graph: Any, node: Any, three: list[Projection]) -> None:
    from onnx import helper, numpy_helper

    heads = next(one.i for one in node.attribute if one.name == "num_heads")
    hidden, width = three[0].weight.shape
    weight = np.stack([one.weight.reshape(hidden, heads, width // heads) for one in three], axis=2)
    own = node.output[0]
    names = {part: f"{own}_qkv_{part}" for part in ("weight", "bias", "shape", "flat", "product")}
    tensors = {
        "weight": weight.reshape(hidden, 3 * width),
        "bias": np.concatenate([one.bias for one in three]),
        "shape": np.array([-1, heads, 3, width // heads], dtype=np.int64),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(tensor), names[part]) for part, tensor in tensors.items()
    )
    at = list(graph.node).index(node)
    graph.node.insert(
        at, helper.make_node("Reshape", [names["flat"], names["shape"]], [names["product"]], f"{own}_shape")
    )
    graph.node.insert(
        at, helper.make_node("MatMul", [three[0].states, names["weight"]], [names["flat"]], f"{own}_qkv")
    )
    node.input[:4] = [names["product"], "", "", names["bias"]]


def _prune(graph: Any) -> None:
    """Drop nodes and weights that nothing reads any more."""
    kept = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if kept & set(node.output):
            kept.update(node.input)
    for holder, names in ((graph.node, _outputs), (graph.initializer, _name)):
        for one in [one for one in holder if not kept & set(names(one))]:
            holder.remove(one)


def _outputs(node: Any) -> Iterator[str]:
    yield from node.output


def _name(tensor: Any) -> Iterator[str]:
    yield tensor.name
