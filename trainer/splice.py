"""A head on an exported graph: the encoder's nodes and weights stay as they are."""

from __future__ import annotations

from typing import Any

from trainer.head import Head

WEIGHT, BIAS, LOGITS, EMBEDDING = "head.weight", "head.bias", "logits", "embedding"


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


def _drop_head(graph: Any) -> None:
    for node in [one for one in graph.node if LOGITS in one.output]:
        graph.node.remove(node)
    for output in [one for one in graph.output if one.name == LOGITS]:
        graph.output.remove(output)
    used = {name for node in graph.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)
