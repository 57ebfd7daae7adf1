"""An int8 graph of an exported encoder: weights per column, activations per token, the head as it is.

A scale per token, where ONNX Runtime's own quantiser has one per batch, keeps batch mates out of an answer as
single precision does: the sums are of integers. Channels with outliers are evened out before: what a channel
is divided by, its row of the weights is multiplied with (SmoothQuant, Xiao et al. 2023,
https://arxiv.org/abs/2211.10438).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.graph import Graph

Array = np.ndarray[Any, np.dtype[Any]]
EVENED = 0.6  # how much of an outlier's size moves into the weights
LEAST = 1e-5
# After GELU values reach from -0.17 upwards: sixteen of 256 steps for what lies below zero are enough.
ACTIVATIONS, BELOW_ZERO, DEEPEST = {"Gelu", "BiasGelu", "FastGelu", "Relu"}, 16, 0.17
PREFIX = "int8."


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A MatMul of states with constant weights, float32 [inputs, outputs]."""

    node: Any
    weight: Array
    rectified: bool  # its states come out of GELU


def quantise(content: bytes, ids: Sequence[Sequence[int]], *, threads: int, sparing: bool = False) -> bytes:
    """The int8 graph of a `model.onnx`; `ids` are texts that show how large activations get.

    `sparing` leaves the products after GELU in single precision: they are a third of the work, and what int8
    costs in accuracy it costs there first.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    found = _products(model.graph)
    products = {name: one for name, one in found.items() if not (sparing and one.rectified)}
    states = list(dict.fromkeys(product.node.input[0] for product in products.values()))
    largest = _largest(content, states, ids, threads=threads)
    nodes, made = list(model.graph.node), _Writer(model.graph)
    divisors = {name: _divisors(name, largest[name], list(products.values())) for name in states}
    del model.graph.node[:]
    for node in nodes:
        product = products.get(node.output[0])
        if product is None:
            model.graph.node.append(node)
        else:
            made.product(product, divisors[node.input[0]])
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


def _largest(
    content: bytes, names: list[str], ids: Sequence[Sequence[int]], *, threads: int
) -> dict[str, Array]:
    """Largest size of every channel of the named values over the texts."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(content)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    graph = Graph(model.SerializeToString(), threads=threads)
    largest = {name: np.zeros(1, dtype=np.float32) for name in names}
    for row in ids:
        for name, value in zip(names, graph.values([row], names), strict=True):
            largest[name] = np.maximum(largest[name], np.abs(value).max(axis=(0, 1)))
    return largest


def _divisors(name: str, largest: Array, products: list[Product]) -> Array | None:
    """What each channel of the states is divided by, float32 [inputs]; None where it stays as it is."""
    readers = [product for product in products if product.node.input[0] == name]
    if any(product.rectified for product in readers):
        return None  # a shift of the sizes would cost more steps than the outliers do
    rows = np.max([np.abs(product.weight).max(axis=1) for product in readers], axis=0)
    sizes = np.maximum(largest, LEAST) ** EVENED / np.maximum(rows, LEAST) ** (1 - EVENED)
    return np.asarray(sizes / np.exp(np.log(sizes).mean()), dtype=np.float32)


class _Writer:
    """Appends nodes and weights to a graph; the same states are quantised once."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._known: set[str] = set()
        self._quantised: dict[str, tuple[str, str, str]] = {}

    def product(self, product: Product, divisors: Array | None) -> None:
        states, out = product.node.input[0], product.node.output[0]
        weight = product.weight if divisors is None else product.weight * divisors[:, None]
        columns = np.abs(weight).max(axis=0) / 127
        columns[columns == 0] = 1.0
        if states not in self._quantised:
            self._quantised[states] = self._states(states, divisors, rectified=product.rectified)
        integers, scale, zero = self._quantised[states]
        own = [
            self._constant(f"{out}.weight", np.round(weight / columns).astype(np.int8)),
            self._constant("one", np.float32(1)),
            self._constant(f"{out}.columns", columns.astype(np.float32)),
        ]
        whole = f"{PREFIX}{out}.whole"
        order = [integers, own[0], own[1], own[2], zero]
        self._node("MatMulIntegerToFloat", order, whole, domain="com.microsoft")
        self._node("Mul", [whole, scale], out)

    def prune(self) -> None:
        """Drop weights that nothing reads any more."""
        read = {name for node in self._graph.node for name in node.input}
        for tensor in [one for one in self._graph.initializer if one.name not in read]:
            self._graph.initializer.remove(tensor)

    def _states(self, states: str, divisors: Array | None, *, rectified: bool) -> tuple[str, str, str]:
        """Names of the integers, of their scale [rows, tokens, 1] and of their zero."""
        own = f"{PREFIX}{states}"
        source = states
        if divisors is not None:
            source = f"{own}.even"
            self._node("Mul", [states, self._constant(f"{states}.divisors", 1 / divisors)], source)
        zero = BELOW_ZERO if rectified else 128
        least = DEEPEST / BELOW_ZERO if rectified else 1e-9
        steps = np.float32(1 / (255 - zero if rectified else 127))
        self._node("Abs", [source], f"{own}.sizes")
        self._node("ReduceMax", [f"{own}.sizes", self._constant("last", np.array([-1]))], f"{own}.largest")
        self._node("Mul", [f"{own}.largest", self._constant(f"steps{zero}", steps)], f"{own}.step")
        self._node("Max", [f"{own}.step", self._constant(f"least{zero}", np.float32(least))], f"{own}.scale")
        self._integers(own, source, zero)
        return f"{own}.integers", f"{own}.scale", self._constant(f"zero{zero}", np.uint8(zero))

    def _integers(self, own: str, source: str, zero: int) -> None:
        """QuantizeLinear knows one axis of scales, so rows and tokens become one and are parted again."""
        last = self._constant("last", np.array([-1]))
        self._node("Shape", [source], f"{own}.shape")
        self._node("Slice", [f"{own}.shape", last, self._constant("end", np.array([9]))], f"{own}.width")
        self._node("Concat", [last, f"{own}.width"], f"{own}.flat_shape", axis=0)
        self._node("Reshape", [source, f"{own}.flat_shape"], f"{own}.flat")
        self._node("Reshape", [f"{own}.scale", last], f"{own}.scales")
        self._node("Mul", [f"{own}.scales", self._constant("none", np.float32(0))], f"{own}.zeros")
        zero_name = self._constant(f"zero{zero}_single", np.float32(zero))
        self._node("Add", [f"{own}.zeros", zero_name], f"{own}.zeros_single")
        self._node("Cast", [f"{own}.zeros_single"], f"{own}.zero", to=2)
        self._node(
            "QuantizeLinear", [f"{own}.flat", f"{own}.scales", f"{own}.zero"], f"{own}.flat_integers", axis=0
        )
        self._node("Reshape", [f"{own}.flat_integers", f"{own}.shape"], f"{own}.integers")

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
