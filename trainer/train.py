"""From rows to a sealed version: fit, export, prove, seal."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from trainer.artifact import (
    CARD,
    HOLDOUT,
    NEAREST,
    REPORT,
    TOKENIZER,
    DataPrint,
    Manifest,
    Version,
    open_version,
    seal,
)
from trainer.card import card, licence
from trainer.control import learn
from trainer.crossfit import Judged, write_unseen
from trainer.encoder_graph import positions
from trainer.engine_files import engine_files
from trainer.errors import SpecError
from trainer.findings import recorded
from trainer.fitting.checkpoint import beside
from trainer.fitting.report import with_gap
from trainer.gate import DataGate
from trainer.known import Known, beside_snapshot, nearest_bytes, of_parent, read_known, write_beside
from trainer.progress import Progress, Report, Sayer
from trainer.replay import replay, weigh
from trainer.report import Examined, examine, flat
from trainer.rows import HoldoutRow, Row, check_rows, write_holdout
from trainer.rungs import Given
from trainer.sources import base_sha256, resolve_base
from trainer.spec import TrainSpec
from trainer.split import prepare
from trainer.tabular import write_bytes
from trainer.tokens import lengths, tokenizer

PROBE_TEXTS = 200
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
class Parent:
    """The version that a retrain starts from, and embeddings of texts by its encoder."""

    name: str
    folder: Path | None = None  # None: a head is trained on the base model's encoder
    known: Path | None = None  # trainer.known.write_known


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
    judged: Judged | None = None,
) -> Path:
    """Train and seal a version in the directory `out`, which is emptied first; returns `out`.

    A death at any point leaves no manifest in it; the same training goes on from `checkpoints`, by default a
    folder beside `out`. A head is cross-fitted on the `judged` rows, and what they are answered is written
    before the seal. Raises any TrainerError.
    """
    checkpoints = checkpoints or beside(out)
    progress(Progress(stage="data", message=f"{len(train_rows)} rows"))
    check_rows(train_rows, data.path, spec.model.task)
    rows = replay(train_rows, spec.fit)
    check_rows(rows, data.path, spec.model.task)
    base = resolve_base(spec.model.base, cache)
    check_positions(base, spec)
    gate = DataGate(spec, holdout, tokens=partial(lengths, base / "tokenizer.json"))
    stand_for = _base_rows(train_rows) / max(1, _base_rows(rows))
    rows = gate.texts(rows)
    check_rows(rows, data.path, spec.model.task)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cut = tokenizer(base / "tokenizer.json", spec.model.max_tokens)
    grown_from = grown_from_parent(spec, base, parent)
    texts = [row.text for row in holdout][:PROBE_TEXTS] or [row.text for row in rows][:PROBE_TEXTS]
    given = Given(
        spec=spec,
        rows=rows,
        weights=weigh(rows, spec.fit, stand_for=stand_for),
        probe_texts=texts,
        base=base,
        tokenizer=cut,
        cache=cache,
        out=out,
        parent=grown_from,
        known=_known(grown_from, parent, data.path.parent),
        sift=gate.labels,
        judged=[row.text for row in judged.rows] if judged is not None else (),
        say=Sayer(progress).say,
        checkpoints=checkpoints,
    )
    lesson = learn(given, holdout)
    made = lesson.made
    engines = engine_files(given, made, holdout)
    progress(Progress(stage="seal", message="figures, hold-out, manifest"))
    examined = Examined(
        spec=spec,
        made=made,
        out=out,
        tokenizer=cut,
        holdout=holdout,
        truth=[row.label for row in lesson.rows],
        parent=grown_from or _opened(parent),
        control=lesson.control,
        judged=judged,
    )
    report = examine(examined)
    figures = flat(report)
    heat = report["holdout"]["temperature"]
    if judged is not None and made.unseen is not None:
        write_unseen(judged, made.unseen, made.labels, task=spec.model.task, temperature=heat)
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
        thresholds=report["holdout"]["thresholds"],
        metrics=figures
        | {
            "trained_rows": len(made.embeddings),
            "incremental": lesson.steps,
            "fit": with_gap(made.report, figures["accuracy"]),
        },
        findings=recorded(gate.findings),
        dropped=gate.dropped,
        parity=made.parity,
        attention=made.attention,
        engines=engines,
        parent=parent.name if parent is not None else None,
        rung=made.rung,
        seed=spec.fit.seed,
        created_at=now,
        versions=versions(),
    )
    write_bytes(out / TOKENIZER, cut.to_str().encode())
    write_bytes(out / NEAREST, nearest_bytes(made.embeddings, spec.fit.seed))
    write_holdout(holdout, out / HOLDOUT)
    for name, content in made.files.items():
        write_bytes(out / name, content)
    write_bytes(out / REPORT, json.dumps(report, indent=1, allow_nan=False).encode())
    write_bytes(out / CARD, card(manifest, report, licence(base, spec.model.base)).encode())
    write_beside(beside_snapshot(data.path.parent, seal(out, manifest)), made.embeddings)
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
    judged: Path | None = None,
    unseen: Path | None = None,
) -> None:
    """Write what `python -m trainer` reads; attempts that share `checkpoints` go on from one another's.

    `judged`: rows to cross-fit, `unseen`: a file for the answers.
    """
    request = {
        "spec": spec.model_dump(mode="json"),
        "train": str(train),
        "holdout": str(holdout),
        "data_sha256": sha256,
        "parent": parent and {key: value and str(value) for key, value in asdict(parent).items()},
        "cache": str(cache),
        "checkpoints": checkpoints and str(checkpoints),
        "judged": judged and str(judged),
        "unseen": unseen and str(unseen),
    }
    write_bytes(path, json.dumps(request, indent=2).encode())


def check_positions(base: Path, spec: TrainSpec) -> None:
    """SpecError where more tokens are to be read than the encoder has positions."""
    places = positions(base)
    if places is not None and spec.model.max_tokens > places:
        problem = f"{spec.model.max_tokens} tokens, but the encoder has {places} positions"
        raise SpecError("the spec", "model.max_tokens", problem, f"Use at most {places}.")


def grown_from_parent(spec: TrainSpec, base: Path, parent: Parent | None) -> Version | None:
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


def _opened(parent: Parent | None) -> Version | None:
    """The parent, to ask it what it knew; its encoder may be another one."""
    return open_version(parent.folder) if parent is not None and parent.folder is not None else None


def _base_rows(rows: Sequence[Row]) -> int:
    return sum(row.origin == "base" for row in rows)


def versions() -> dict[str, str]:
    """Of the libraries that a training rests on."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
