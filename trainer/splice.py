"""A head on an exported graph: the encoder's nodes and weights stay as they are."""

from __future__ import annotations

from typing import Any

from trainer.errors import ExportError
from trainer.head import Head

WEIGHT, BIAS, LOGITS, EMBEDDING = "head.weight", "head.bias", "logits", "embedding"
COLUMNS, PRODUCT = "head.columns", "head.product"  # of a head on the states of tokens


def splice(graph: bytes, head: Head) -> bytes:
    """A graph of `trainer.export` with another head, of any number of labels."""
    import onnx

    model = onnx.load_model_from_string(graph)
    put_head(model.graph, head)
    spliced: bytes = model.SerializeToString()
    return spliced


def read_head(graph: bytes) -> Head:
    """The head of a graph that `splice` or `trainer.export` made."""
    import onnx
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in onnx.load_model_from_string(graph).graph.initializer}
    weight, bias = (numpy_helper.to_array(tensors[name]) for name in (WEIGHT, BIAS))
    return Head(weight=weight, bias=bias)


def without_head(graph: bytes) -> tuple[bytes, Head] | None:
    """The encoder, whose one output is the embedding, and the head; None where logits are made otherwise."""
    import onnx

    model = onnx.load_model_from_string(graph)
    made = [list(node.input) for node in model.graph.node if LOGITS in node.output]
    if made != [[EMBEDDING, WEIGHT, BIAS]]:
        return None
    _drop_head(model.graph)
    encoder: bytes = model.SerializeToString()
    return encoder, read_head(graph)


def put_head(graph: Any, head: Head) -> None:
    """Make logits = embeddings @ weight.T + bias the first output of an ONNX graph, in place of its head."""
    from onnx import TensorProto, helper, numpy_helper

    _drop_head(graph)
    graph.initializer.append(numpy_helper.from_array(head.weight, WEIGHT))
    graph.initializer.append(numpy_helper.from_array(head.bias, BIAS))
    graph.node.append(helper.make_node("Gemm", [EMBEDDING, WEIGHT, BIAS], [LOGITS], transB=1))
    graph.output.insert(
        0, helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", len(head.bias)])
    )


def put_token_head(graph: Any, head: Head) -> None:
    """Make logits = states @ weight.T + bias [rows, tokens, tags] the first output, in place of the head."""
    from onnx import TensorProto, helper, numpy_helper

    states = states_of(graph)
    _drop_head(graph)
    graph.initializer.append(numpy_helper.from_array(head.weight, WEIGHT))
    graph.initializer.append(numpy_helper.from_array(head.bias, BIAS))
    graph.node.append(helper.make_node("Transpose", [WEIGHT], [COLUMNS], perm=[1, 0]))
    graph.node.append(helper.make_node("MatMul", [states, COLUMNS], [PRODUCT]))
    graph.node.append(helper.make_node("Add", [PRODUCT, BIAS], [LOGITS]))
    shape = ["batch", "tokens", len(head.bias)]
    graph.output.insert(0, helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, shape))


def states_of(graph: Any) -> str:
    """Name of the last layer's states [rows, tokens, hidden] in an ONNX graph: what the mean is made of.

    Raises ExportError where the embedding is no mean of states, as trainer.encoder.pool makes it.
    """
    made_by = {output: node for node in graph.node for output in node.output}
    node = made_by.get(EMBEDDING)
    while node is not None and node.op_type != "MatMul":
        node = made_by.get(node.input[0])
    if node is None:
        raise ExportError("the states of its tokens were not found in the graph")
    return str(node.input[1])


def _drop_head(graph: Any) -> None:
    for node in [one for one in graph.node if {LOGITS, COLUMNS, PRODUCT} & {*one.output}]:
        graph.node.remove(node)
    for output in [one for one in graph.output if one.name == LOGITS]:
        graph.output.remove(output)
    used = {name for node in graph.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)
