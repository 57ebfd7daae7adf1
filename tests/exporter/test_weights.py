"""Tables that versions have in common are held once, and only as long as somebody uses them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.weights import LEAST_BYTES, share

ROWS, WIDTH = 5000, 64


def graph(table: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> bytes:
    """Rows looked up in a table, times a matrix."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["states"]),
        helper.make_node("MatMul", ["states", "weight"], ["out"]),
    ]
    made = helper.make_graph(
        nodes,
        "looked-up",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def answers(content: bytes) -> tuple[np.ndarray[Any, Any], list[Any], Any]:
    options = onnxruntime.SessionOptions()
    held = share(options, content)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.arange(ROWS)})[0], held, session


@pytest.fixture
def parts() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    assert table.nbytes >= LEAST_BYTES
    return table, rng.normal(size=(WIDTH, WIDTH)).astype(np.float32)


def test_two_versions_hold_a_common_table_once_and_answer_by_their_own_weights(parts: Any) -> None:
    table, weight = parts
    first, held, _one = answers(graph(table, weight))
    second, also, _two = answers(graph(table, -weight))
    assert [id(value) for value in held] == [id(value) for value in also]
    assert len(held) == 1  # the matrix is packed by each session
    np.testing.assert_array_equal(second, -first)
    np.testing.assert_allclose(first, table @ weight, rtol=1e-4, atol=1e-4)


def test_another_table_of_the_same_name_is_another_one(parts: Any) -> None:
    table, weight = parts
    first, _, _one = answers(graph(table, weight))
    second, _, _two = answers(graph(2 * table, weight))
    np.testing.assert_allclose(second, 2 * first, rtol=1e-5, atol=1e-5)


def test_a_table_goes_with_its_last_user(parts: Any) -> None:
    table, weight = parts
    _, held, session = answers(graph(table, weight))
    seen = weakref.ref(held[0])
    del held, session
    gc.collect()
    assert seen() is None
