"""What a graph must not be: no ONNX, of operators nobody here runs, or with weights nobody hashed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

OPSETS = {"": 26, "ai.onnx": 26, "com.microsoft": 1}  # the newest that ONNX Runtime 1.31 runs, by domain


def problem(content: bytes, *, beside: bool = False) -> str | None:
    """Why the bytes cannot be served, as the end of a sentence about them; None where they can.

    `beside`: weights may lie in files beside it.

    >>> problem(b"no graph")
    'is not an ONNX model'
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        return "is not an ONNX model"
    if not model.graph.node:
        return "is an ONNX model without a graph"
    for used in model.opset_import:
        newest = OPSETS.get(used.domain)
        if newest is None:
            return f"wants operators of {used.domain!r}, which ONNX Runtime does not have"
        if used.version > newest:
            return f"wants version {used.version} of {used.domain or 'ONNX'}'s operators, known is {newest}"
    if not beside and _locations(model):
        return "keeps weights in another file"
    return None


def weight_files(content: bytes) -> set[str]:
    """Names of the files in which a graph keeps weights."""
    import onnx

    return _locations(onnx.load_model_from_string(content))


def _locations(model: Any) -> set[str]:
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    return {
        str(ExternalDataInfo(tensor).location) for tensor in _tensors(model) if uses_external_data(tensor)
    }


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in an ONNX message: initialisers, attributes, subgraphs, functions."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part)
