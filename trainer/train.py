"""From rows to a sealed version: fit, export, prove, seal."""

from __future__ import annotations

import importlib.metadata
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.artifact import HOLDOUT, MODEL, NEAREST, TOKENIZER, DataPrint, Manifest, Parity, seal
from trainer.calibrate import temperature
from trainer.errors import ParityError
from trainer.evaluate import evaluate
from trainer.export import Attention, export, routes
from trainer.fit import Fitted, fit
from trainer.graph import Graph
from trainer.parity import parity, probes
from trainer.rows import HoldoutRow, Row, check_rows, write_holdout
from trainer.sources import base_sha256, resolve_base
from trainer.spec import TrainSpec
from trainer.split import prepare, replay
from trainer.tabular import write_bytes
from trainer.tasks import load
from trainer.tokens import encode, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
Stage = Literal["data", "fit", "export", "parity", "seal"]

NEAREST_ROWS = 2000
EVALUATED_ROWS = 300  # newest labelled hold-out rows; the exporter answers all of them at registration
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "scikit-learn",
    "numpy",
)

__all__ = ["DataRef", "Progress", "prepare", "train", "write_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef:
    """The snapshot that a version is trained on."""

    sha256: str
    rows: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; `eta_s` is the seconds left of this stage, if known."""

    stage: Stage
    done: int = 0
    total: int = 1
    message: str = ""
    eta_s: float | None = None


Report = Callable[[Progress], None]


def train(
    spec: TrainSpec,
    *,
    train_rows: Sequence[Row],
    holdout: Sequence[HoldoutRow],
    data: DataRef,
    out: Path,
    cache: Path,
    parent: str | None,
    progress: Report,
    now: float,
) -> Path:
    """Train and seal a version in the directory `out`, which is emptied first; returns `out`.

    A death at any point leaves no manifest in it. Raises any TrainerError.
    """
    progress(Progress(stage="data", message=f"{len(train_rows)} rows"))
    check_rows(train_rows, data.path)
    rows = replay(train_rows, spec.fit.replay_rows, seed=spec.fit.seed)
    check_rows(rows, data.path)
    task = load(spec.model.task)
    base = resolve_base(spec.model.base, cache)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    fitted = fit(spec, rows, base, tick=_ticker(progress))
    attention, proof = _exported(spec, fitted, holdout, rows, base, out, progress)
    progress(Progress(stage="seal", message="figures, hold-out, manifest"))
    logits, truth = _answers(spec, fitted, holdout, base, out)
    heat = temperature(logits, truth)
    write_bytes(out / NEAREST, _nearest(fitted.embeddings, spec.fit.seed))
    write_holdout(holdout, out / HOLDOUT)
    manifest = Manifest(
        task=spec.model.task,
        model=spec.model.name,
        labels=fitted.labels,
        base=spec.model.base,
        base_sha256=base_sha256(base),
        data=DataPrint(sha256=data.sha256, rows=data.rows),
        spec=spec.model_dump(mode="json"),
        max_tokens=spec.model.max_tokens,
        temperature=heat,
        metrics=evaluate(task.decode(logits, heat), truth, fitted.labels) | {"trained_rows": len(rows)},
        parity=proof,
        attention=attention,
        parent=parent,
        rung=spec.fit.rung,
        seed=spec.fit.seed,
        created_at=now,
        versions=_versions(),
    )
    seal(out, manifest)
    progress(Progress(stage="seal", done=1, message="sealed"))
    return out


def write_request(
    path: Path, spec: TrainSpec, *, train: Path, holdout: Path, sha256: str, parent: str | None, cache: Path
) -> None:
    """Write what `python -m trainer` reads."""
    request = {
        "spec": spec.model_dump(mode="json"),
        "train": str(train),
        "holdout": str(holdout),
        "data_sha256": sha256,
        "parent": parent,
        "cache": str(cache),
    }
    write_bytes(path, json.dumps(request, indent=2).encode())


def _ticker(progress: Report) -> Callable[[int, int], None]:
    started = time.monotonic()

    def tick(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done) if done else None
        progress(Progress(stage="fit", done=done, total=total, eta_s=left))

    progress(Progress(stage="fit", message="loading the encoder"))
    return tick


def _exported(
    spec: TrainSpec,
    fitted: Fitted,
    holdout: Sequence[HoldoutRow],
    rows: Sequence[Row],
    base: Path,
    out: Path,
    progress: Report,
) -> tuple[Attention, Parity]:
    """Export by the fastest route whose answers agree with the trained model's."""
    cut = tokenizer(base / "tokenizer.json", spec.model.max_tokens)
    write_bytes(out / TOKENIZER, cut.to_str().encode())
    texts = [row.text for row in holdout] or [row.text for row in rows]
    chosen = probes(encode(cut, texts[:200]), max_tokens=spec.model.max_tokens)
    ways = routes(fitted)
    for attention in ways:
        progress(Progress(stage="export", message=f"{attention} attention"))
        export(fitted, out / MODEL, attention)
        progress(Progress(stage="parity", total=len(chosen), message="ONNX against torch"))
        try:
            return attention, parity(fitted, out / MODEL, chosen, spec.gate, threads=spec.fit.threads)
        except ParityError:
            if attention == ways[-1]:
                raise
    raise AssertionError("an encoder has at least one route")


def _answers(
    spec: TrainSpec, fitted: Fitted, holdout: Sequence[HoldoutRow], base: Path, out: Path
) -> tuple[Array, Array]:
    """(logits of the graph, label numbers) of labelled hold-out rows; unknown labels are left out."""
    numbers = {label: number for number, label in enumerate(fitted.labels)}
    known = [row for row in holdout if row.label in numbers][-EVALUATED_ROWS:]
    ids = encode(tokenizer(base / "tokenizer.json", spec.model.max_tokens), [row.text for row in known])
    graph = Graph(out / MODEL, threads=spec.fit.threads)
    truth = np.array([numbers[str(row.label)] for row in known], dtype=np.int64)
    return graph.logits(ids, labels=len(fitted.labels)), truth


def _nearest(embeddings: Array, seed: int) -> bytes:
    """The .npy file of at most NEAREST_ROWS embeddings, as float16 [rows, hidden]."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(embeddings))[:NEAREST_ROWS])
    sink = io.BytesIO()
    np.save(sink, embeddings[chosen].astype(np.float16), allow_pickle=False)
    return sink.getvalue()


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
