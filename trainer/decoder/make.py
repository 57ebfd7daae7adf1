"""From a language model to a sealed version: export, prove, seal."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from trainer.artifact import MODEL, TOKENIZER, DataPrint, EngineFile, Manifest, Parity
from trainer.decoder import TASK
from trainer.decoder.errors import UnrunnableError
from trainer.decoder.export import Precision, export
from trainer.decoder.graph import DecoderGraph
from trainer.decoder.proof import Gate, prove
from trainer.decoder.sealed import EXPORTED, REQUIRED, seal_decoder
from trainer.errors import TrainerError
from trainer.sources import base_sha256

ENGINES: dict[Precision, str] = {"fp32": "decoder-cpu", "int4": "decoder-cpu", "fp16": "decoder-cuda"}
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
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
    precision: Precision = "fp32",
    prompts: Sequence[str],
    now: float,
    gate: Gate | None = None,
    max_tokens: int = 8192,
    threads: int = 2,
) -> Path:
    """Seal the Transformers folder `base` itself as a version in `out`, emptied first; returns `out`.

    Nothing is sealed that was not proved on `prompts`. fp16 is for CUDA; it is proved with the processor's
    kernels of the same operators, where there may be no GPU. Raises any TrainerError.
    """
    graph = exported(base, out, precision, threads=threads)
    tokenizer = Tokenizer.from_str((out / TOKENIZER).read_text(encoding="utf-8"))
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(prompts))]
    proof = prove(graph, base, ids, gate or Gate(), precision)
    manifest = Manifest(
        task=TASK,
        model=model,
        labels=[],
        base=str(base),
        base_sha256=base_sha256(base),
        data=DataPrint(sha256="", rows=0),
        spec={"precision": precision},
        max_tokens=min(max_tokens, graph.context),
        temperature=1.0,
        metrics={"perplexity": proof.perplexity, "torch_perplexity": proof.torch_perplexity},
        parity=Parity(max_abs=proof.max_abs, label_agreement=proof.equal / proof.prompts, rows=proof.prompts),
        engines={ENGINES[precision]: EngineFile(file=MODEL, precision=precision)},
        rung="base",
        seed=0,
        created_at=now,
        versions=versions(),
    )
    seal_decoder(out, manifest)
    return out


def exported(folder: Path, out: Path, precision: Precision, *, threads: int) -> DecoderGraph:
    """Export a Transformers folder into `out`, which is emptied first, and load it.

    Raises BuilderError, UnrunnableError.
    """
    export(folder, out, precision)
    for left in out.iterdir():
        if left.name not in REQUIRED | EXPORTED:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    files = {entry.name: entry.read_bytes() for entry in out.iterdir()}
    try:
        graph = DecoderGraph(out, files, threads=threads)
        graph.fill(0, [0])
    except Exception as error:  # the library has no base class for what it raises
        if isinstance(error, TrainerError):
            raise
        raise UnrunnableError(folder, str(error).splitlines()[0]) from error
    graph.release()
    return graph


def versions() -> dict[str, str]:
    """Of the libraries that a decoder comes from."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
