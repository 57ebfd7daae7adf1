"""An int8 graph of an exported encoder: weights per column, activations per token, the head as it is.

A scale per token, where ONNX Runtime's own quantiser has one per batch, keeps batch mates out of an answer as
single precision does: the sums are of integers. Channels with outliers are evened out before: what a channel
is divided by, its row of the weights is multiplied with (SmoothQuant, Xiao et al. 2023,
https://arxiv.org/abs/2211.10438). Weights are rounded so that products err least (trainer.rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainer.graph import Graph
from trainer.rounding import rounded

Array = np.ndarray[Any, np.dtype[Any]]
EVENED = 0.6  # how much of an outlier's size moves into the weights
LEAST = 1e-5
# After GELU values reach from -0.17 upwards: sixteen of 256 steps for what lies below zero are enough.
ACTIVATIONS, BELOW_ZERO, DEEPEST = {"Gelu", "BiasGelu", "FastGelu", "Relu"}, 16, 0.17
OUTLIERS = 32  # channels after GELU that stay in single precision: the largest make all others coarse
PREFIX = "int8."
Care = Literal["none", "outliers", "gelu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A MatMul of states with constant weights, float32 [inputs, outputs]."""

    node: Any
    weight: Array
    rectified: bool  # its states come out of GELU


def quantise(content: bytes, ids: Sequence[Sequence[int]], *, threads: int, care: Care = "none") -> bytes:
    """The int8 graph of a `model.onnx`; `ids` are texts that show what activations are like.

    What int8 costs in accuracy it costs first in the products after GELU. With care for "outliers" their
    OUTLIERS largest channels stay in single precision, with care for "gelu" all of these products do, which
    are a third of the work.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    found = _products(model.graph)
    products = {name: one for name, one in found.items() if not (care == "gelu" and one.rectified)}
    states = list(dict.fromkeys(product.node.input[0] for product in products.values()))
    seen = _seen(content, states, ids, threads=threads)
    nodes, made = list(model.graph.node), _Writer(model.graph)
    apart = OUTLIERS if care == "outliers" else 0
    evened = {name: _evened(name, seen[name].largest, list(products.values()), apart) for name in states}
    del model.graph.node[:]
    for node in nodes:
        product = products.get(node.output[0])
        if product is None:
            model.graph.node.append(node)
        else:
            made.product(product, evened[node.input[0]], seen[node.input[0]].gram)
    made.prune()
    quantised: bytes = model.SerializeToString()
    return quantised


def _products(graph: Any) -> dict[str, Product]:
    """By the name of what they compute."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return {
        node.output[0]: Product(
            node=node,
            weight=numpy_helper.to_array(weights[node.input[1]]),
            rectified=makers.get(node.input[0]) in ACTIVATIONS,
        )
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    }


def _seen(
    content: bytes, names: list[str], ids: Sequence[Sequence[int]], *, threads: int
) -> dict[str, States]:
    """What the named values are like over the texts."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(content)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    graph = Graph(model.SerializeToString(), threads=threads)
    found = {name: States() for name in names}
    for row in ids:
        for name, value in zip(names, graph.values([row], names), strict=True):
            found[name].add(value.reshape(-1, value.shape[-1]))
    return found


class States:
    """Largest size of every channel [inputs]; sums of products of channels [inputs, inputs]."""

    def __init__(self) -> None:
        self.largest: Array = np.zeros(1, dtype=np.float32)
        self.gram: Array = np.zeros((1, 1), dtype=np.float32)

    def add(self, values: Array) -> None:
        """`values` float32 [tokens, inputs]."""
        self.largest = np.maximum(self.largest, np.abs(values).max(axis=0))
        self.gram = self.gram + values.T @ values


@dataclass(frozen=True, slots=True, kw_only=True)
class Evened:
    """What states are multiplied with before they become integers, float32 [inputs].

    It is 0 for the channels `apart`, int64, whose share of the product is computed in single precision.
    """

    factors: Array
    apart: Array
    rectified: bool

    @property
    def weights(self) -> Array:
        """What rows of the weights are multiplied with in return."""
        zeros = np.zeros_like(self.factors)
        return np.divide(1, self.factors, out=zeros, where=self.factors != 0)


def _evened(name: str, largest: Array, products: list[Product], outliers: int) -> Evened:
    readers = [product for product in products if product.node.input[0] == name]
    if any(product.rectified for product in readers):
        # Dividing them would cost more steps below zero than it gains above.
        apart = np.sort(np.argsort(-largest)[: min(outliers, len(largest) // 8)])
        factors = np.ones_like(largest)
        factors[apart] = 0
        return Evened(factors=factors, apart=apart, rectified=True)
    rows = np.max([np.abs(product.weight).max(axis=1) for product in readers], axis=0)
    sizes = np.maximum(largest, LEAST) ** EVENED / np.maximum(rows, LEAST) ** (1 - EVENED)
    factors = np.asarray(np.exp(np.log(sizes).mean()) / sizes, dtype=np.float32)
    return Evened(factors=factors, apart=np.zeros(0, dtype=np.int64), rectified=False)


class _Writer:
    """Appends nodes and weights to a graph; the same states are quantised once."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._known: set[str] = set()
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def product(self, product: Product, evened: Evened, gram: Array) -> None:
        states, out = product.node.input[0], product.node.output[0]
        weight = product.weight * evened.weights[:, None]
        columns = np.abs(weight).max(axis=0) / 127
        columns[columns == 0] = 1.0
        if states not in self._quantised:
            self._quantised[states] = self._states(states, evened)
        integers, scale, zero = self._quantised[states]
        found = rounded(weight, columns, gram * evened.factors * evened.factors[:, None])
        own = [
            self._constant(f"{out}.weight", found),
            self._constant("one", np.float32(1)),
            self._constant(f"{out}.columns", columns.astype(np.float32)),
        ]
        whole = f"{PREFIX}{out}.whole"
        order = [integers, own[0], own[1], own[2], zero]
        self._node("MatMulIntegerToFloat", order, whole, domain="com.microsoft")
        if not len(evened.apart):
            self._node("Mul", [whole, scale], out)
            return
        self._node("Mul", [whole, scale], f"{whole}.scaled")
        self._node("Gather", [states, self._constant(f"{states}.apart", evened.apart)], f"{out}.few", axis=-1)
        few = self._constant(f"{out}.apart", product.weight[evened.apart])
        self._node("MatMul", [f"{out}.few", few], f"{out}.single")
        self._node("Add", [f"{whole}.scaled", f"{out}.single"], out)

    def prune(self) -> None:
        """Drop weights that nothing reads any more."""
        read = {name for node in self._graph.node for name in node.input}
        for tensor in [one for one in self._graph.initializer if one.name not in read]:
            self._graph.initializer.remove(tensor)

    def _states(self, states: str, evened: Evened) -> tuple[str, str, str]:
        """Names of the integers, of their scale [rows, tokens, 1] and of their zero."""
        own, rectified = f"{PREFIX}{states}", evened.rectified
        source = states
        if (evened.factors != 1).any():
            source = f"{own}.even"
            self._node("Mul", [states, self._constant(f"{states}.factors", evened.factors)], source)
        zero = BELOW_ZERO if rectified else 128
        steps = np.float32(255 - zero if rectified else 127)
        # Of values next to nothing the scale is such that what lies below zero has room, or any at all.
        least = np.float32(steps * (DEEPEST / BELOW_ZERO if rectified else 1e-9))
        self._node("Abs", [source], f"{own}.sizes")
        self._node("ReduceMax", [f"{own}.sizes", self._constant("last", np.array([-1]))], f"{own}.most")
        self._node("Max", [f"{own}.most", self._constant(f"least{zero}", least)], f"{own}.largest")
        self._node("Div", [self._constant(f"steps{zero}", steps), f"{own}.largest"], f"{own}.per_step")
        self._node("Mul", [source, f"{own}.per_step"], f"{own}.units")
        # Units are rounded by a scale of one: QuantizeLinear itself has no scale per token of a row.
        whole = [f"{own}.units", self._constant("one", np.float32(1))]
        zero_name = self._constant(f"zero{zero}", np.uint8(zero))
        self._node("QuantizeLinear", [*whole, zero_name], f"{own}.integers")
        self._node("Mul", [f"{own}.largest", self._constant(f"share{zero}", 1 / steps)], f"{own}.scale")
        return f"{own}.integers", f"{own}.scale", zero_name

    def _node(self, operator: str, inputs: list[str], output: str, **more: Any) -> None:
        from onnx import helper

        self._graph.node.append(helper.make_node(operator, inputs, [output], f"{output}.{operator}", **more))

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{PREFIX}{name}"
        if name not in self._known:
            self._known.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
