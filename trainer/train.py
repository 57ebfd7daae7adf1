"""From rows to a sealed version: fit, export, prove, seal."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import HOLDOUT, NEAREST, TOKENIZER, DataPrint, Manifest, Version, open_version, seal
from trainer.calibrate import temperature
from trainer.encoder_graph import positions
from trainer.engine_files import engine_files
from trainer.errors import SpecError
from trainer.evaluate import evaluate
from trainer.findings import recorded
from trainer.fitting.checkpoint import beside
from trainer.fitting.report import with_gap
from trainer.gate import DataGate
from trainer.known import Known, nearest_bytes, of_parent, read_known
from trainer.rows import HoldoutRow, Row, check_rows, write_holdout
from trainer.rungs import Given, Made, Stage, make
from trainer.sources import base_sha256, resolve_base
from trainer.spec import TrainSpec
from trainer.split import prepare, replay
from trainer.tabular import write_bytes
from trainer.tasks import load
from trainer.tokens import lengths, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]

PROBE_TEXTS = 200
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

__all__ = ["DataRef", "Parent", "Progress", "prepare", "train", "write_request"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The version that a retrain starts from, and embeddings of texts by its encoder."""

    name: str
    folder: Path | None = None  # None: a head is trained on the base model's encoder
    known: Path | None = None  # trainer.known.write_known


Report = Callable[[Progress], None]


def train(
    spec: TrainSpec,
    *,
    train_rows: Sequence[Row],
    holdout: Sequence[HoldoutRow],
    data: DataRef,
    out: Path,
    cache: Path,
    parent: Parent | None,
    progress: Report,
    now: float,
    checkpoints: Path | None = None,
) -> Path:
    """Train and seal a version in the directory `out`, which is emptied first; returns `out`.

    A death at any point leaves no manifest in it; the same training goes on from `checkpoints`, by default a
    folder beside `out`. Raises any TrainerError.
    """
    checkpoints = checkpoints or beside(out)
    progress(Progress(stage="data", message=f"{len(train_rows)} rows"))
    check_rows(train_rows, data.path)
    rows = replay(train_rows, spec.fit.replay_rows, seed=spec.fit.seed)
    check_rows(rows, data.path)
    task = load(spec.model.task)
    base = resolve_base(spec.model.base, cache)
    _check_positions(base, spec)
    gate = DataGate(spec, holdout, tokens=partial(lengths, base / "tokenizer.json"))
    rows = gate.texts(rows)
    check_rows(rows, data.path)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cut = tokenizer(base / "tokenizer.json", spec.model.max_tokens)
    grown_from = _grown_from(spec, base, parent)
    texts = [row.text for row in holdout][:PROBE_TEXTS] or [row.text for row in rows][:PROBE_TEXTS]
    given = Given(
        spec=spec,
        rows=rows,
        probe_texts=texts,
        base=base,
        tokenizer=cut,
        cache=cache,
        out=out,
        parent=grown_from,
        known=_known(grown_from, parent, data.path.parent),
        sift=gate.labels,
        say=_Sayer(progress).say,
        checkpoints=checkpoints,
    )
    made = make(given)
    engines = engine_files(given, made, holdout)
    progress(Progress(stage="seal", message="figures, hold-out, manifest"))
    logits, truth = _answers(made, holdout)
    heat = temperature(logits, truth)
    write_bytes(out / TOKENIZER, cut.to_str().encode())
    write_bytes(out / NEAREST, nearest_bytes(made.embeddings, spec.fit.seed))
    write_holdout(holdout, out / HOLDOUT)
    for name, content in made.files.items():
        write_bytes(out / name, content)
    figures = evaluate(task.decode(logits, heat), truth, made.labels)
    manifest = Manifest(
        task=spec.model.task,
        model=spec.model.name,
        labels=made.labels,
        base=spec.model.base,
        base_sha256=base_sha256(base),
        data=DataPrint(sha256=data.sha256, rows=data.rows),
        spec=spec.model_dump(mode="json"),
        max_tokens=spec.model.max_tokens,
        temperature=heat,
        metrics=figures
        | {"trained_rows": len(made.embeddings), "fit": with_gap(made.report, figures["accuracy"])},
        findings=recorded(gate.findings),
        dropped=gate.dropped,
        parity=made.parity,
        attention=made.attention,
        engines=engines,
        parent=parent.name if parent is not None else None,
        rung=made.rung,
        seed=spec.fit.seed,
        created_at=now,
        versions=_versions(),
    )
    seal(out, manifest)
    shutil.rmtree(checkpoints, ignore_errors=True)
    progress(Progress(stage="seal", done=1, message="sealed"))
    return out


def write_request(
    path: Path,
    spec: TrainSpec,
    *,
    train: Path,
    holdout: Path,
    sha256: str,
    parent: Parent | None,
    cache: Path,
    checkpoints: Path | None = None,
) -> None:
    """Write what `python -m trainer` reads; attempts that share `checkpoints` go on from one another's."""
    request = {
        "spec": spec.model_dump(mode="json"),
        "train": str(train),
        "holdout": str(holdout),
        "data_sha256": sha256,
        "parent": parent and {key: value and str(value) for key, value in asdict(parent).items()},
        "cache": str(cache),
        "checkpoints": checkpoints and str(checkpoints),
    }
    write_bytes(path, json.dumps(request, indent=2).encode())


class _Sayer:
    """Turns what a rung says into progress with the seconds left of its stage."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._of: tuple[str, str] = ("", "")
        self._since = 0.0

    def say(self, stage: Stage, done: int, total: int, message: str) -> None:
        if (stage, message) != self._of:
            self._of, self._since = (stage, message), time.monotonic()
        left = (time.monotonic() - self._since) / done * (total - done) if done else None
        self._report(Progress(stage=stage, done=done, total=total, message=message, eta_s=left))


def _check_positions(base: Path, spec: TrainSpec) -> None:
    places = positions(base)
    if places is not None and spec.model.max_tokens > places:
        problem = f"{spec.model.max_tokens} tokens, but the encoder has {places} positions"
        raise SpecError("the spec", "model.max_tokens", problem, f"Use at most {places}.")


def _grown_from(spec: TrainSpec, base: Path, parent: Parent | None) -> Version | None:
    """The parent, where its encoder can be built on: the same base, cut at the same length."""
    from_base = spec.fit.rung != "head" and spec.fit.start == "base"
    if parent is None or parent.folder is None or from_base:
        return None
    version = open_version(parent.folder)
    same = (version.manifest.base_sha256, version.manifest.max_tokens) == (
        base_sha256(base),
        spec.model.max_tokens,
    )
    return version if same else None


def _known(grown_from: Version | None, parent: Parent | None, snapshots: Path) -> Known:
    if grown_from is None or parent is None:
        return {}
    told = read_known(parent.known) if parent.known is not None else {}
    return of_parent(grown_from, snapshots) | told


def _answers(made: Made, holdout: Sequence[HoldoutRow]) -> tuple[Array, Array]:
    """(logits [rows, labels], label numbers [rows]) of the newest labelled hold-out rows of known classes."""
    numbers = {label: number for number, label in enumerate(made.labels)}
    known = [row for row in holdout if row.label in numbers][-EVALUATED_ROWS:]
    truth = np.array([numbers[str(row.label)] for row in known], dtype=np.int64)
    if not known:
        return np.zeros((0, len(made.labels)), dtype=np.float32), truth
    return made.logits([row.text for row in known]), truth


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
