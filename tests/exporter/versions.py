"""Tiny sealed versions with a random graph, made in milliseconds, for every suite that needs one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from trainer.artifact import DataPrint, Manifest, Parity, seal
from trainer.rows import HoldoutRow, write_holdout

HIDDEN = 16
MAX_TOKENS = 64
WORDS = ("card", "payment", "refund", "account", "help", "lost", "stolen", "limit", "transfer", "fee")


def build_version(
    folder: Path,
    *,
    model: str = "router",
    labels: Sequence[str] = ("yes", "no", "maybe"),
    seed: int = 0,
    holdout_rows: int = 20,
    parent: str | None = None,
    pooling: Literal["matmul", "sum", "padded"] = "matmul",
) -> Path:
    """Seal a version in `folder` (which must not exist) and return it.

    Byte tokens, random token embeddings, mean pooling, a random linear head: any text gives an answer that
    depends on every byte of it.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    tokenizer = _tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (folder / "model.onnx").write_bytes(_graph(rng, tokenizer.get_vocab_size(), len(labels), pooling))
    nearest = rng.normal(size=(50, HIDDEN)).astype(np.float32)
    nearest /= np.linalg.norm(nearest, axis=1, keepdims=True)
    np.save(folder / "nearest.npy", nearest.astype(np.float16), allow_pickle=False)
    write_holdout(_holdout(rng, labels, holdout_rows), folder / "holdout.parquet")
    seal(folder, _manifest(model, labels, seed, holdout_rows, parent))
    return folder


def sentence(rng: np.random.Generator, longest: int = 12) -> str:
    """A few words at random."""
    return " ".join(rng.choice(WORDS, size=int(rng.integers(1, longest + 1))))


# ONNX Runtime's ReduceSum rounds a batch of one differently; MatMul does not.
_POOLING = {
    "matmul": [
        helper.make_node("Unsqueeze", ["mask", "second"], ["mask3"]),
        helper.make_node("MatMul", ["mask3", "states"], ["total3"]),
        helper.make_node("Squeeze", ["total3", "second"], ["total"]),
    ],
    "sum": [
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["states", "mask3"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "second"], ["total"], keepdims=0),
    ],
    "padded": [helper.make_node("ReduceSum", ["states", "second"], ["total"], keepdims=0)],  # sees padding
}


def _manifest(
    model: str, labels: Sequence[str], seed: int, holdout_rows: int, parent: str | None
) -> Manifest:
    return Manifest(
        task="classification",
        model=model,
        labels=list(labels),
        base="tiny",
        base_sha256="0" * 64,
        data=DataPrint(sha256="0" * 64, rows=holdout_rows),
        spec={},
        max_tokens=MAX_TOKENS,
        temperature=1.0,
        metrics={},
        parity=Parity(max_abs=0.0, label_agreement=1.0, rows=holdout_rows),
        parent=parent,
        rung="head",
        seed=seed,
        created_at=1_700_000_000.0,
    )


def _holdout(rng: np.random.Generator, labels: Sequence[str], rows: int) -> list[HoldoutRow]:
    return [
        HoldoutRow(text=sentence(rng), label=str(rng.choice(list(labels))), in_reference=number % 2 == 0)
        for number in range(rows)
    ]


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[CLS]", "[SEP]", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def _graph(rng: np.random.Generator, vocabulary: int, labels: int, pooling: str) -> bytes:
    weights = {
        "tokens_table": rng.normal(size=(vocabulary, HIDDEN)).astype(np.float32),
        "head": rng.normal(size=(HIDDEN, labels)).astype(np.float32) * 3,
        "last": np.array([2], dtype=np.int64),
        "second": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["tokens_table", "input_ids"], ["states"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        *_POOLING[pooling],
        helper.make_node("LpNormalization", ["total"], ["embedding"], axis=-1, p=2),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        outputs,
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
