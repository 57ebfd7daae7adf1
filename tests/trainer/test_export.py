"""Encoders of several architectures as graphs: the padded one, and the padding-free one by its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.trainer.encoders import BUILDERS, PLACES, PLAIN, batches, encoder, fitted
from trainer.encoder import layers
from trainer.encoder_graph import positions
from trainer.errors import ExportError
from trainer.export import export, export_packed, operators, packable, routes
from trainer.fit import Fitted
from trainer.graph import Graph
from trainer.packed_reference import PackedReference
from trainer.parity import torch_logits

# Every export costs seconds; `python -m tests.benchmarks.architectures` goes through all of them.
PADDED = ("distilbert", "modernbert")
PACKED = ("roberta", "modernbert")


@pytest.fixture(scope="module", params=PACKED)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    made = fitted(encoder(request.param))
    path = tmp_path_factory.mktemp(request.param) / "packed.onnx"
    export_packed(made, path)
    return made, path


@pytest.mark.parametrize("name", PADDED)
def test_a_padded_graph_agrees_with_torch_at_any_batch_and_length(name: str, tmp_path: Path) -> None:
    made = fitted(encoder(name))
    export(made, tmp_path / "model.onnx", routes(made)[0])
    assert operators(tmp_path / "model.onnx")["MultiHeadAttention"] == 2
    graph = Graph(tmp_path / "model.onnx", threads=1)
    for ids in batches():
        assert np.abs(graph.run(ids)[0] - torch_logits(made, ids)).max() < 1e-4


def test_a_packed_graph_agrees_with_torch_at_any_batch_and_length(packed: tuple[Fitted, Path]) -> None:
    made, path = packed
    reference = PackedReference(path.read_bytes(), threads=1)
    for ids in batches():
        assert np.abs(reference.run(ids)[0] - torch_logits(made, ids)).max() < 0.02


def test_a_packed_answer_does_not_depend_on_batch_mates(packed: tuple[Fitted, Path]) -> None:
    reference = PackedReference(packed[1].read_bytes(), threads=1)
    mixed = batches()[4]
    together = reference.run(mixed)
    for row, ids in enumerate(mixed):
        for beside, alone in zip(together, reference.run([ids]), strict=True):
            assert np.array_equal(beside[row], alone[0])


def test_nothing_but_attention_joins_tokens_of_a_packed_graph(packed: tuple[Fitted, Path]) -> None:
    """One per layer and one that pools: no sum runs over the flat axis, where texts lie side by side."""
    found = operators(packed[1])
    assert found["PackedMultiHeadAttention"] == 3
    assert not {"ReduceSum", "ReduceMean", "CumSum", "Softmax", "MultiHeadAttention"} & set(found)


def test_a_packed_graph_is_in_half_precision_but_for_its_head(packed: tuple[Fitted, Path]) -> None:
    model = onnx.load(packed[1])
    half = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    single = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    assert len(half) >= 12
    assert {name for name, value in single.items() if value.ndim == 2} == {"head.weight"}
    assert [output.type.tensor_type.elem_type for output in model.graph.output] == [
        onnx.TensorProto.FLOAT
    ] * 2


def test_the_three_products_of_a_packed_layer_are_one(packed: tuple[Fitted, Path]) -> None:
    made, path = packed
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "PackedMultiHeadAttention"]
    joined = [node for node in nodes if node.input[3] and not node.input[1]]
    rotary = made.encoder.config.model_type == "modernbert"  # q and k are turned after their product
    assert len(joined) == (0 if rotary else 2)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_what_has_no_padding_free_graph_says_why(name: str, tmp_path: Path) -> None:
    made = fitted(encoder(name))
    why = packable(made.encoder)
    assert (why is not None) == (name in PLAIN)
    assert (routes(made) == ["generic"]) == (name in PLAIN)
    if why is not None:
        with pytest.raises(ExportError, match="outside transformers' attention interface"):
            export_packed(made, tmp_path / "packed.onnx")


def test_an_encoder_outside_the_interface_takes_the_plain_route(tmp_path: Path) -> None:
    made = fitted(encoder("mpnet"))
    export(made, tmp_path / "model.onnx", "generic")
    graph = Graph(tmp_path / "model.onnx", threads=1)
    for ids in batches():
        assert np.abs(graph.run(ids)[0] - torch_logits(made, ids)).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "alone"),
    [("bert", 2), ("roberta", 2), ("distilbert", 2), ("electra", 2), ("mpnet", 0), ("modernbert", 0)],
)
def test_layers_are_told_apart_only_where_each_runs_on_states_and_a_mask(name: str, alone: int) -> None:
    found = layers(encoder(name))
    assert (0 if found is None else len(found)) == alone


@pytest.mark.parametrize(("name", "places"), [("roberta", PLACES - 2), ("bert", PLACES)])
def test_places_before_the_first_token_do_not_count(name: str, places: int, tmp_path: Path) -> None:
    made = encoder(name)
    made.save_pretrained(tmp_path)
    assert positions(tmp_path) == places
    longest = [[5] * places]
    assert np.isfinite(torch_logits(fitted(made), longest)).all()
    with pytest.raises((IndexError, RuntimeError)):
        torch_logits(fitted(made), [[5] * (places + 1)])


def _of_an_operator_that_is_none() -> bytes:
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    node = onnx.helper.make_node("Levitate", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "strange", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 20)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


@pytest.mark.parametrize("content", [b"\xff" * 64, _of_an_operator_that_is_none()])
def test_a_graph_that_no_session_takes_is_told(content: bytes) -> None:
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the graph"):
        Graph(content, threads=1)


def test_an_operation_that_onnx_lacks_is_told(tmp_path: Path) -> None:
    @torch.library.custom_op("trueup_tests::halve", mutates_args=())  # type: ignore[untyped-decorator]
    def halve(given: torch.Tensor) -> torch.Tensor:
        return given / 2

    @halve.register_fake  # type: ignore[untyped-decorator]
    def _(given: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(given)

    made = fitted(encoder("bert"))

    def strange(module: Any, given: Any, out: Any) -> Any:
        return halve(out)

    made.encoder.embeddings.register_forward_hook(strange)
    with pytest.raises(ExportError, match=r"cannot be exported to ONNX.*halve"):
        export(made, tmp_path / "model.onnx", "generic")
