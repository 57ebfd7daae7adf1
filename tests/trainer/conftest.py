"""A tiny random BERT and a toy task: everything but the accuracy is as with a real encoder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from trainer.artifact import DataPrint, Manifest, Parity, Version
from trainer.fit import Fitted, fit
from trainer.fitting.phase import Say
from trainer.rows import HoldoutRow, Row, write_holdout
from trainer.spec import TrainSpec, parse_spec

WORDS = {"fruit": ["apple", "pear", "plum", "fig"], "metal": ["iron", "zinc", "tin", "lead"]}
FILLER = ["the", "a", "of", "and", "was", "is"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT with three layers of width 32, random weights."""
    return write_base(tmp_path_factory.mktemp("base"))


def write_base(folder: Path) -> Path:
    """Write that BERT into a folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLER, *WORDS["fruit"], *WORDS["metal"]]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Sixty toy texts of two classes."""
    return toy_rows()


def toy_rows() -> list[Row]:
    """The same on every call."""
    rng = np.random.default_rng(0)
    return [_row(rng, label) for _ in range(30) for label in WORDS]


def fit_toy(
    spec: TrainSpec,
    rows: Sequence[Row],
    folder: Path,
    *,
    say: Say = lambda *_: None,
    parent: Version | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Fit on all rows, with checkpoints in `folder`."""
    return fit(
        spec,
        rows,
        Path(spec.model.base),
        sift=lambda embeddings: list(range(len(embeddings))),
        say=say,
        folder=folder,
        parent=parent,
        clock=clock,
    )


def _row(rng: np.random.Generator, label: str) -> Row:
    words = [*rng.choice(FILLER, rng.integers(1, 5)), *rng.choice(WORDS[label], 3)]
    return Row(text=" ".join(rng.permutation(words)), label=label)


@pytest.fixture
def spec_for(base: Path) -> Callable[..., TrainSpec]:
    """A spec of the tiny encoder; keywords go to [fit]."""

    def make(**fit: object) -> TrainSpec:
        return parse_spec(
            {
                "model": {"name": "toy", "base": str(base), "max_tokens": 16},
                "data": {"train": "toy.jsonl"},
                "fit": {"threads": 1, "batch_size": 8, **fit},
            }
        )

    return make


@pytest.fixture
def manifest() -> Manifest:
    """A manifest as a training writes it, before sealing."""
    return Manifest(
        task="classification",
        model="toy",
        labels=["a", "b"],
        base="tiny",
        base_sha256="0" * 64,
        data=DataPrint(sha256="1" * 64, rows=2),
        spec={},
        max_tokens=16,
        temperature=1.0,
        metrics={},
        parity=Parity(max_abs=0.0, label_agreement=1.0, rows=2),
        rung="head",
        seed=0,
        created_at=0.0,
    )


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """The four files of a version around a minimal real ONNX graph, without a manifest."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), "weight")
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("x", "logits")]
    node = helper.make_node("MatMul", ["x", "weight"], ["logits"])
    graph = helper.make_graph([node], "tiny", value[:1], value[1:], [weight])
    folder = tmp_path / "version"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    np.save(folder / "nearest.npy", np.eye(2, dtype=np.float16))
    write_holdout(
        [HoldoutRow(text="x", label="a"), HoldoutRow(text="y", label=None)], folder / "holdout.parquet"
    )
    assert onnx.load(folder / "model.onnx").graph.initializer
    return folder
