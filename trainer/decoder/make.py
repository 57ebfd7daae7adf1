"""From a language model to a sealed version: export, prove, seal."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from trainer.artifact import MODEL, TOKENIZER, DataPrint, EngineFile, Manifest, Parity
from trainer.decoder import TASK
from trainer.decoder.export import export
from trainer.decoder.graph import DecoderGraph
from trainer.decoder.proof import Gate, prove
from trainer.decoder.sealed import OPTIONAL, REQUIRED, seal_decoder
from trainer.sources import base_sha256

LIBRARIES = (
    "torch",
    "transformers",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-genai-cuda",
    "numpy",
)


def make_decoder(
    base: Path,
    out: Path,
    *,
    model: str,
    precision: Literal["fp32", "int4"] = "fp32",
    prompts: Sequence[str],
    now: float,
    gate: Gate | None = None,
    base_name: str | None = None,
    data: DataPrint | None = None,
    spec: dict[str, Any] | None = None,
    parent: str | None = None,
    rung: str = "base",
    seed: int = 0,
    max_tokens: int = 8192,
    threads: int = 2,
) -> Path:
    """Seal the Transformers folder `base` as a version in `out`, which is emptied first; returns `out`.

    Nothing is sealed that was not proved on `prompts`; fp16 could be proved on a GPU only, so it is exported
    (trainer.decoder.export) and not sealed. Raises any TrainerError.
    """
    export(base, out, precision)
    for left in out.iterdir():
        if left.name not in REQUIRED | OPTIONAL:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    files = {entry.name: entry.read_bytes() for entry in out.iterdir()}
    graph = DecoderGraph(out, files, threads=threads)
    tokenizer = Tokenizer.from_str(files[TOKENIZER].decode())
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    proof = prove(graph, base, ids, gate or Gate(), precision)
    manifest = Manifest(
        task=TASK,
        model=model,
        labels=[],
        base=base_name or str(base),
        base_sha256=base_sha256(base),
        data=data or DataPrint(sha256="", rows=0),
        spec=(spec or {}) | {"precision": precision},
        max_tokens=min(max_tokens, graph.context),
        temperature=1.0,
        metrics={"perplexity": proof.perplexity, "torch_perplexity": proof.torch_perplexity},
        parity=Parity(max_abs=proof.max_abs, label_agreement=proof.equal / proof.prompts, rows=proof.prompts),
        engines={"decoder-cpu": EngineFile(file=MODEL, precision=precision)},
        parent=parent,
        rung=rung,
        seed=seed,
        created_at=now,
        versions=_versions(),
    )
    seal_decoder(out, manifest)
    return out


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
