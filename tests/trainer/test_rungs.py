"""Both rungs, from rows to a version that opens, on a tiny random BERT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.artifact import Version, open_version
from trainer.encoder import load_encoder
from trainer.errors import BaseModelError, DataError, ParityError, SpecError
from trainer.export import export, operators, routes
from trainer.fit import Fitted, fit
from trainer.graph import Graph
from trainer.head import Head
from trainer.parity import parity, torch_logits
from trainer.rows import HoldoutRow, Row
from trainer.spec import GateTable, TrainSpec
from trainer.train import DataRef, Parent, Progress, train

SpecFor = Callable[..., TrainSpec]
RUNGS = ["head", "layers", "adapter", "full"]


def _all(embeddings: np.ndarray[Any, np.dtype[Any]]) -> list[int]:
    return list(range(len(embeddings)))


def _silent(done: int, total: int, message: str) -> None:
    assert message
    assert 0 <= done <= total


def _train(spec: TrainSpec, rows: list[Row], out: Path, seen: list[Progress] | None = None) -> Version:
    holdout = [HoldoutRow(text=row.text, label=row.label) for row in rows[40:]]
    holdout += [HoldoutRow(text="unlabelled", label=None), HoldoutRow(text="new", label="never seen")]
    made = train(
        spec,
        train_rows=rows[:40],
        holdout=holdout,
        data=DataRef(sha256="2" * 64, rows=40, path=Path("toy.parquet")),
        out=out,
        cache=out.parent / "cache",
        parent=Parent(name="v7"),
        progress=(seen if seen is not None else []).append,
        now=1234.5,
    )
    return open_version(made)


@pytest.fixture(scope="module", params=RUNGS)
def version(
    request: pytest.FixtureRequest, base: Path, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Version:
    spec = TrainSpec.model_validate(
        {
            "model": {"name": "toy", "base": str(base), "max_tokens": 16},
            "data": {"train": "toy.jsonl"},
            "fit": {"rung": request.param, "threads": 1, "batch_size": 8, "epochs": 3},
        }
    )
    return _train(spec, rows, tmp_path_factory.mktemp("out") / "version")


def test_the_manifest_says_what_was_done(version: Version) -> None:
    manifest = version.manifest
    assert (manifest.model, manifest.parent, manifest.created_at) == ("toy", "v7", 1234.5)
    assert manifest.labels == ["fruit", "metal"]
    assert manifest.attention == "fused"
    assert manifest.parity.max_abs < 1e-4
    assert manifest.parity.label_agreement == 1.0
    assert manifest.spec["fit"]["rung"] == manifest.rung
    assert {"torch", "transformers", "onnx"} <= set(manifest.versions)


def test_it_learns_the_toy_task(version: Version) -> None:
    assert version.manifest.metrics["accuracy"] >= 0.9
    assert version.manifest.metrics["rows"] == 20


def test_the_holdout_is_kept_whole_and_in_order(version: Version) -> None:
    assert len(version.holdout) == 22
    assert version.holdout[-1].label == "never seen"


def test_nearest_rows_are_the_embeddings_of_training_texts(version: Version, rows: list[Row]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(version.tokenizer_bytes.decode())
    graph = Graph(version.path / "model.onnx", threads=1)
    assert version.nearest.shape == (40, 32)
    for row in rows[:5]:
        _, embedding = graph.run([tokenizer.encode(row.text).ids])
        assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)
        assert (version.nearest.astype(np.float32) @ embedding[0]).max() > 0.999


def test_the_sealed_tokenizer_cuts_and_does_not_pad(version: Version) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(version.tokenizer_bytes.decode())
    assert len(tokenizer.encode("the " * 50).ids) == 16
    assert [len(encoding.ids) for encoding in tokenizer.encode_batch(["the", "the a"])] == [3, 4]


def test_the_graph_is_fused_and_has_one_attention_per_layer(version: Version) -> None:
    found = operators(version.path / "model.onnx")
    assert found["MultiHeadAttention"] == 3
    assert found["LayerNormalization"] == 7  # apart from what is added before it: faster on a processor
    assert found["BiasGelu"] == 3


@pytest.mark.parametrize("rung", RUNGS)
def test_the_same_seed_gives_the_same_version(
    rung: str, spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    first = _train(spec_for(rung=rung), rows, tmp_path / "first")
    again = _train(spec_for(rung=rung), rows, tmp_path / "again")
    same = {"model.onnx", "nearest.npy"}
    assert {first.manifest.files[name] for name in same} == {again.manifest.files[name] for name in same}


def test_another_seed_gives_other_weights(
    spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    first = fit(spec_for(seed=1), rows, base, sift=_all, say=_silent, folder=tmp_path / "1")
    again = fit(spec_for(seed=2), rows, base, sift=_all, say=_silent, folder=tmp_path / "2")
    assert not np.array_equal(first.head.weight, again.head.weight)


@pytest.mark.parametrize("layers", [1, 3, 9])
def test_cached_lower_layers_give_what_the_whole_encoder_gives(
    layers: int, spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer

    fitted = fit(spec_for(lora_layers=layers), rows, base, sift=_all, say=_silent, folder=tmp_path)
    ids = [
        encoding.ids
        for encoding in Tokenizer.from_file(str(base / "tokenizer.json")).encode_batch(
            [row.text for row in rows[:6]]
        )
    ]
    whole = torch_logits(fitted, ids)
    assert np.abs(fitted.head.logits(fitted.embeddings[:6]) - whole).max() < 0.02  # states are cached as fp16


@pytest.fixture(scope="module")
def exported(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Fitted, Path]]:
    """The untrained encoder under a random head, by both routes."""
    head = Head(weight=np.random.default_rng(0).normal(size=(3, 32)).astype("f4"), bias=np.zeros(3, "f4"))
    fitted = Fitted(
        encoder=load_encoder(base), head=head, labels=["a", "b", "c"], embeddings=np.zeros((1, 32))
    )
    made: dict[str, tuple[Fitted, Path]] = {}
    for route in routes(fitted):
        path = tmp_path_factory.mktemp(route) / "model.onnx"
        export(fitted, path, route)
        made[route] = (fitted, path)
    assert list(made) == ["fused", "generic"]
    return made


@pytest.mark.parametrize("route", ["fused", "generic"])
def test_the_graph_agrees_with_torch_at_any_batch_and_length(
    route: str, exported: dict[str, tuple[Fitted, Path]]
) -> None:
    fitted, path = exported[route]
    graph = Graph(path, threads=1)
    rng = np.random.default_rng(0)
    for batch in (1, 2, 7):
        for length in range(1, 33):
            lengths = [length, *rng.integers(1, length + 1, batch - 1)]
            ids = [rng.integers(4, 18, size).tolist() for size in lengths]
            assert np.abs(graph.run(ids)[0] - torch_logits(fitted, ids)).max() < 1e-4


def test_an_encoder_outside_the_attention_interface_takes_the_generic_route(base: Path) -> None:
    encoder = load_encoder(base)
    encoder._supports_attention_backend = False
    head = Head(weight=np.zeros((2, 32), "f4"), bias=np.zeros(2, "f4"))
    assert routes(Fitted(encoder=encoder, head=head, labels=["a", "b"], embeddings=np.zeros((1, 32)))) == [
        "generic"
    ]


def test_a_graph_that_answers_otherwise_is_refused(exported: dict[str, tuple[Fitted, Path]]) -> None:
    fitted, path = exported["fused"]
    other = Fitted(
        encoder=fitted.encoder,
        head=Head(weight=fitted.head.weight * 1.5, bias=fitted.head.bias),
        labels=fitted.labels,
        embeddings=fitted.embeddings,
    )
    with pytest.raises(ParityError, match="differs from the trained model"):
        parity(other, path, [[2, 5, 3], [2, 9, 9, 3]], GateTable(), threads=1)


def test_progress_names_every_stage_in_order(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    seen: list[Progress] = []
    _train(spec_for(rung="head"), rows, tmp_path / "version", seen)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["data", "fit", "export", "parity", "seal"]


def test_training_rows_of_one_class_are_refused(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every row has the label"):
        _train(spec_for(), [row for row in rows if row.label == "fruit"] * 2, tmp_path / "version")


def test_more_tokens_than_the_encoder_has_positions_are_refused(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for()
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"max_tokens": 33})})
    with pytest.raises(SpecError, match="32 positions"):
        _train(spec, rows, tmp_path / "version")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaseModelError, match="transformers cannot load it"):
        load_encoder(tmp_path)


def test_an_encoder_without_known_projections_is_refused(spec_for: SpecFor) -> None:
    import torch

    from trainer.encoder import Embedded
    from trainer.fitting.trained import Texts, Trained

    frozen = Embedded(embeddings=np.zeros((1, 4)), hidden=[])
    texts = Texts(ids=[[2, 3]], truth=np.zeros(1, np.int64), frozen=frozen, first=None)
    head = Head(weight=np.zeros((2, 4), "f4"), bias=np.zeros(2, "f4"))
    with pytest.raises(BaseModelError, match="attention projection"):
        Trained(torch.nn.Sequential(torch.nn.Linear(4, 4)), head, texts, spec_for().fit, "adapter")
