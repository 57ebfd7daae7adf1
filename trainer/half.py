"""Half precision for an exported graph, but for the nodes that need more.

ONNX Runtime's own converter names two nodes alike where one value crosses twice; this one is short because an
exported encoder has no subgraphs, and its values carry the types that torch's exporter noted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

SINGLE, HALF = 1, 10  # onnx.TensorProto.FLOAT and FLOAT16


def halve(graph: Any, single: Iterable[Any]) -> None:
    """Turn weights and values to half precision in place, except at the nodes of `single` and the outputs."""
    single, nodes = list(single), list(graph.node)  # held, so that an id stays one node's
    outputs = {output.name for output in graph.output}
    kept = {id(node) for node in [*single, *(one for one in nodes if outputs & set(one.output))]}
    _weights(graph, nodes, kept)
    for node in nodes:
        if id(node) not in kept:
            _produce_half(node)
    _cross(graph, nodes, kept)


def upstream(graph: Any, operators: set[str], *, until: str) -> list[Any]:
    """The nodes of these operators and all that computes their data, back to the first `until`.

    Shapes are no data: beyond these operators only the first input is followed.
    """
    arithmetic = {"MatMul", "Mul", "Add", "Sub", "Div", "Concat"}
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [node for node in graph.node if node.op_type in operators]
    found: dict[int, Any] = {}
    while waiting:
        node = waiting.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if node.op_type != until:
            data = node.input if node.op_type in arithmetic else node.input[:1]
            waiting += [makers[name] for name in data if name in makers]
    return list(found.values())


def downstream(graph: Any, start: Any) -> list[Any]:
    """The nodes that read what `start` computes, directly or not."""
    values, found = set(start.output), []
    for node in graph.node:  # in order of computation
        if values & set(node.input):
            values.update(node.output)
            found.append(node)
    return found


def _weights(graph: Any, nodes: list[Any], kept: set[int]) -> None:
    """A half copy of each weight that a half node reads; the single one stays where somebody needs it."""
    from onnx import numpy_helper

    for tensor in [one for one in graph.initializer if one.data_type == SINGLE]:
        readers = [node for node in nodes if tensor.name in node.input]
        halves = [node for node in readers if id(node) not in kept]
        if not halves:
            continue
        name = f"{tensor.name}_half"
        graph.initializer.append(numpy_helper.from_array(_rounded(numpy_helper.to_array(tensor)), name))
        for node in halves:
            node.input[:] = [name if one == tensor.name else one for one in node.input]
        if len(halves) == len(readers):
            graph.initializer.remove(tensor)


def _rounded(values: Any) -> Any:
    with np.errstate(over="ignore"):  # beyond 65,504 lies infinity, and the parity check refuses it
        return values.astype(np.float16)


def _produce_half(node: Any) -> None:
    """An operator that names a precision itself names the half one."""
    from onnx import numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == SINGLE:
            attribute.i = HALF
        if attribute.name == "value" and attribute.t.data_type == SINGLE:
            attribute.t.CopyFrom(numpy_helper.from_array(_rounded(numpy_helper.to_array(attribute.t))))


def _cross(graph: Any, nodes: list[Any], kept: set[int]) -> None:
    """A cast for each value that goes from half to single precision or back."""
    from onnx import helper

    typed = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == SINGLE}
    makers = {name: id(node) in kept for node in nodes for name in node.output if name in typed}
    made: dict[str, str] = {}
    del graph.node[:]
    for node in nodes:
        mine = id(node) in kept
        for name in [one for one in dict.fromkeys(node.input) if makers.get(one, mine) != mine]:
            if name not in made:
                made[name] = f"{name}_{'single' if mine else 'half'}"
                graph.node.append(
                    helper.make_node(
                        "Cast", [name], [made[name]], f"cast_{made[name]}", to=SINGLE if mine else HALF
                    )
                )
            node.input[:] = [made[name] if one == name else one for one in node.input]
        graph.node.append(node)
