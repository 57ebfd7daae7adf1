"""Engines beside the single-precision one: made when asked, measured, kept or refused with the reason."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from trainer.artifact import INT8, PACKED, EngineFile, Parity, Version, open_version
from trainer.encoder import load_encoder
from trainer.encoder_graph import export_proven
from trainer.engine_files import KINDS, refusal
from trainer.errors import ParityError, SpecError, VersionRefusedError
from trainer.fit import Fitted
from trainer.graph import Graph
from trainer.head import Head
from trainer.packed_reference import PackedReference
from trainer.quantise import Care, quantise
from trainer.rows import HoldoutRow, Row
from trainer.spec import GateTable, TrainSpec, parse_spec
from trainer.splice import read_head
from trainer.tokens import encode, tokenizer
from trainer.train import DataRef, Parent, train

SpecFor = Callable[..., TrainSpec]
ALL = ("cpu-fp32", "cpu-int8", "cuda-fp16-packed")


def _with(spec: TrainSpec, *engines: str, **gate: float) -> TrainSpec:
    tables = spec.model_dump()
    return parse_spec(tables | {"export": {"engines": list(engines)}, "gate": tables["gate"] | gate})


def _train(
    spec: TrainSpec, rows: list[Row], out: Path, cache: Path, *, parent: Parent | None = None, kept: int = 120
) -> Version:
    holdout = [HoldoutRow(text=row.text, label=row.label) for row in (rows * 2)[:kept]]
    made = train(
        spec,
        train_rows=rows,
        holdout=holdout,
        data=DataRef(sha256="2" * 64, rows=len(rows), path=out.parent / "toy.parquet"),
        out=out,
        cache=cache,
        parent=parent,
        progress=lambda _: None,
        now=0.0,
    )
    return open_version(made)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model's graphs, exported once for all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def grown(
    base: Path, rows: list[Row], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainSpec, Version, Version]:
    """(spec, a first version with every engine, a version with a new head on it)."""
    spec = parse_spec(
        {
            "model": {"name": "toy", "base": str(base), "max_tokens": 16},
            "data": {"train": "toy.jsonl"},
            "fit": {"rung": "head", "threads": 1},
            "export": {"engines": list(ALL)},
        }
    )
    folder = tmp_path_factory.mktemp("grown")
    first = _train(spec, rows, folder / "first", cache)
    swapped = [Row(text=row.text, label={"fruit": "metal", "metal": "fruit"}[row.label]) for row in rows]
    child = _train(spec, swapped, folder / "child", cache, parent=Parent(name="v1", folder=first.path))
    return spec, first, child


def _ids(version: Version, texts: list[str]) -> list[list[int]]:
    return encode(tokenizer(version.path / "tokenizer.json", 16), texts)


def test_engines_that_pass_come_before_single_precision(grown: tuple[TrainSpec, Version, Version]) -> None:
    engines = grown[1].manifest.engines
    assert list(engines) == ["cpu-int8", "cuda-fp16-packed", "cpu-fp32", "cuda-fp32"]
    assert [(one.file, one.precision) for one in engines.values()] == [
        (INT8, "int8"),
        (PACKED, "fp16"),
        ("model.onnx", "fp32"),
        ("model.onnx", "fp32"),
    ]
    assert {one.refused for one in engines.values()} == {None}
    assert set(grown[1].variants) == {INT8, PACKED}
    assert engines["cpu-int8"].parity is not None
    assert engines["cpu-int8"].parity.rows == 120


@pytest.mark.parametrize("which", [1, 2])
def test_every_engine_answers_as_the_manifest_says(
    which: int, grown: tuple[TrainSpec, Version, Version], rows: list[Row]
) -> None:
    version = grown[which]
    assert isinstance(version, Version)
    ids = _ids(version, [row.text for row in rows])
    single = Graph(version.model_bytes, threads=1).run(ids)[0]
    half = PackedReference(version.variants[PACKED], threads=1).run(ids)[0]
    whole = Graph(version.variants[INT8], threads=1).run(ids)[0]
    for logits, engine in ((half, "cuda-fp16-packed"), (whole, "cpu-int8")):
        proven = version.manifest.engines[engine].parity
        assert proven is not None
        assert np.abs(logits - single).max() <= proven.max_abs + 1e-3
        assert (logits.argmax(1) == single.argmax(1)).mean() == proven.label_agreement == 1.0


def test_a_new_head_keeps_the_parents_graphs(grown: tuple[TrainSpec, Version, Version]) -> None:
    _, first, child = grown
    assert list(child.manifest.engines) == list(first.manifest.engines)
    for file in (INT8, PACKED):
        before, after = (onnx.load_model_from_string(one.variants[file]) for one in (first, child))
        assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
        assert np.array_equal(read_head(child.variants[file]).weight, read_head(child.model_bytes).weight)
        assert not np.array_equal(read_head(first.variants[file]).weight, read_head(child.model_bytes).weight)


def test_an_int8_answer_does_not_depend_on_batch_mates(
    grown: tuple[TrainSpec, Version, Version], rows: list[Row]
) -> None:
    """Its activations have a scale per token: a scale of the batch would change with every mate."""
    graph = Graph(grown[1].variants[INT8], threads=1)
    ids = [one for one in _ids(grown[1], [row.text for row in rows]) if len(one) == 8]
    assert len(ids) > 4
    logits, embeddings = graph.run(ids)
    for row, one in enumerate(ids):
        alone = graph.run([one])
        assert np.array_equal(embeddings[row], alone[1][0])
        assert np.abs(logits[row] - alone[0][0]).max() < 1e-6  # a head of one row is summed in another order


@pytest.mark.parametrize(("care", "single", "whole"), [("none", 0, 18), ("outliers", 3, 18), ("gelu", 3, 15)])
def test_care_leaves_products_after_gelu_in_single_precision(
    care: Care, single: int, whole: int, grown: tuple[TrainSpec, Version, Version], rows: list[Row]
) -> None:
    ids = [one for one in _ids(grown[1], [row.text for row in rows]) if len(one) == 8]
    content = quantise(grown[1].model_bytes, ids, threads=1, care=care)
    kinds = [node.op_type for node in onnx.load_model_from_string(content).graph.node]
    plain = [node.op_type for node in onnx.load_model_from_string(grown[1].model_bytes).graph.node]
    assert kinds.count("MatMulIntegerToFloat") == whole
    assert kinds.count("MatMul") == plain.count("MatMul") - 18 + single
    graph = Graph(content, threads=1)
    assert np.abs(graph.run(ids)[1] - Graph(grown[1].model_bytes, threads=1).run(ids)[1]).max() < 0.05
    for row in (0, 5):
        assert np.array_equal(graph.run(ids)[1][row], graph.run([ids[row]] * 3)[1][0])


def test_every_product_with_weights_is_of_integers_but_the_heads(
    grown: tuple[TrainSpec, Version, Version],
) -> None:
    model = onnx.load_model_from_string(grown[1].variants[INT8])
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products = [node for node in model.graph.node if set(node.input) & weights]
    assert [node.op_type for node in products].count(
        "MatMulIntegerToFloat"
    ) == 18  # six in each of three layers
    assert {node.op_type for node in products} <= {"MatMulIntegerToFloat", "Gather", "Slice", "Gemm"}


def test_training_asks_for_nothing_more_unless_the_spec_does(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path
) -> None:
    version = _train(spec_for(rung="head"), rows, tmp_path / "made", cache)
    assert list(version.manifest.engines) == ["cpu-fp32", "cuda-fp32"]
    assert version.variants == {}


def test_the_adapter_rung_exports_what_it_trained(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path
) -> None:
    spec = _with(spec_for(rung="adapter"), "cuda-fp16-packed")
    version = _train(spec, rows, tmp_path / "made", cache)
    engine = version.manifest.engines["cuda-fp16-packed"]
    assert engine.refused is None
    assert engine.parity is not None
    assert engine.parity.max_abs < 0.05


def test_an_engine_beyond_its_bound_is_left_out_and_says_why(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path
) -> None:
    spec = _with(spec_for(rung="head"), "cpu-int8", int8_max_abs=1e-9)
    version = _train(spec, rows, tmp_path / "made", cache)
    engine = version.manifest.engines["cpu-int8"]
    assert engine.parity is not None
    assert engine.parity.max_abs > 1e-9
    assert str(engine.refused).startswith("a logit differs by")
    assert list(version.manifest.engines) == ["cpu-fp32", "cuda-fp32", "cpu-int8"]
    assert not (version.path / INT8).exists()


def test_an_engine_that_answers_nan_is_left_out_of_a_version_that_opens(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(KINDS["cpu-int8"], logits=lambda _, ids, __: np.full((len(ids), 2), np.nan))
    monkeypatch.setitem(KINDS, "cpu-int8", broken)
    version = _train(_with(spec_for(rung="head"), "cpu-int8"), rows, tmp_path / "made", cache)
    engine = version.manifest.engines["cpu-int8"]
    assert (engine.parity, engine.refused) == (None, "a logit differs by nan (allowed 1)")


def test_too_few_labelled_rows_prove_no_engine(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path
) -> None:
    version = _train(_with(spec_for(rung="head"), "cpu-int8"), rows, tmp_path / "made", cache, kept=99)
    assert version.manifest.engines["cpu-int8"] == EngineFile(
        file=INT8,
        precision="int8",
        refused="it would be proven on 99 labelled hold-out rows; 100 are needed",
    )


def test_a_head_on_a_parent_without_the_graph_is_told_so(
    spec_for: SpecFor, rows: list[Row], cache: Path, tmp_path: Path
) -> None:
    spec = spec_for(rung="head")
    first = _train(spec, rows, tmp_path / "first", cache)
    asked = _with(spec, "cuda-fp16-packed")
    child = _train(asked, rows, tmp_path / "child", cache, parent=Parent(name="v1", folder=first.path))
    assert "the parent has no padding-free graph" in str(child.manifest.engines["cuda-fp16-packed"].refused)


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({}, None),
        ({"max_abs": math.nan}, "a logit differs by nan"),
        ({"max_abs": 1.5}, r"a logit differs by 1.5 \(allowed 1\)"),
        ({"label_agreement": 0.99}, r"99.00 % of 1000 texts \(required 99.50 %\)"),
        ({"label_agreement": math.nan}, "nan %"),
        ({"accuracy_loss": 0.781 - 0.778}, None),
        ({"accuracy_loss": 0.004}, "0.40 points of accuracy are lost"),
        ({"accuracy_loss": -0.1}, None),
    ],
)
def test_the_bound_of_int8(figures: dict[str, float], why: str | None) -> None:
    told: dict[str, Any] = {"max_abs": 0.3, "label_agreement": 0.996, "accuracy_loss": 0.003, "rows": 1000}
    found = refusal(Parity(**(told | figures)), "int8", GateTable())
    assert (found is None) == (why is None)
    if why is not None:
        assert re.search(why, str(found))


def test_a_file_that_no_engine_names_is_not_sealed_in(
    grown: tuple[TrainSpec, Version, Version], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(grown[1].path, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    del manifest["engines"]["cpu-int8"]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(VersionRefusedError, match="it should hold"):
        open_version(copy)
    (copy / INT8).unlink()
    with pytest.raises(VersionRefusedError, match="its manifest seals"):
        open_version(copy)


def test_an_engine_that_nobody_knows_is_refused_by_the_spec(spec_for: SpecFor) -> None:
    with pytest.raises(SpecError, match=r"export\.engines\.0.*'cpu-int8'"):
        _with(spec_for(), "cpu-int4")


def test_weights_that_training_made_nan_give_no_version(tmp_path: Path, base: Path) -> None:
    encoder = load_encoder(base)
    encoder._supports_attention_backend = False  # one route is enough
    encoder.encoder.layer[0].output.dense.weight.fill_(math.nan)
    head = Head(weight=np.ones((2, 32), "f4"), bias=np.zeros(2, "f4"))
    fitted = Fitted(encoder=encoder, head=head, labels=["a", "b"], embeddings=np.zeros((1, 32)))
    path, gate = tmp_path / "model.onnx", GateTable()
    with pytest.raises(ParityError, match="differs from the trained model: by up to nan"):
        export_proven(fitted, path, [[2, 5, 3]], gate, threads=1, say=lambda *_: None)
