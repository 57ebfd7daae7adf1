"""From marked texts to a sealed version: gate, states, head, graph, proof, figures, seal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import (
    CARD,
    HOLDOUT,
    MODEL,
    NEAREST,
    REPORT,
    TOKENIZER,
    DataPrint,
    Manifest,
    Parity,
    Version,
    seal,
)
from trainer.card import card, licence
from trainer.encoder_graph import EncoderGraph, of_base, of_parent
from trainer.findings import Finding, kept, recorded, refuse
from trainer.graph import Graph
from trainer.head import Head
from trainer.known import nearest_bytes
from trainer.progress import Progress, Report, Sayer
from trainer.replay import replay, weigh
from trainer.rows import HoldoutRow, Row, check_rows, write_holdout
from trainer.sources import base_sha256, resolve_base
from trainer.spec import TrainSpec
from trainer.tabular import write_bytes
from trainer.tagging import TASK
from trainer.tagging.faults import look
from trainer.tagging.report import Examined, examine, flat
from trainer.tagging.tagger import Encoder, fit_tagger, prove, tagged_graph, torch_encoder
from trainer.tasks import classes_of, load
from trainer.tokens import encode, tokenizer
from trainer.train import DataRef, Parent, check_positions, grown_from_parent, versions

Array = np.ndarray[Any, np.dtype[Any]]
PROBE_TEXTS = 200


def train_tagger(
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

    A death at any point leaves no manifest in `out`; a head is fitted in seconds, so that there are no
    `checkpoints` to go on from. Raises any TrainerError.
    """
    del checkpoints
    progress(Progress(stage="data", message=f"{len(train_rows)} rows"))
    say = Sayer(progress).say
    check_rows(train_rows, data.path, TASK)
    base = resolve_base(spec.model.base, cache)
    check_positions(base, spec)
    replayed = replay(train_rows, spec.fit)
    stand_for = _base_rows(train_rows) / max(1, _base_rows(replayed))
    findings, left = _sifted(spec, replayed, holdout, base)
    rows = [replayed[row] for row in left]
    check_rows(rows, data.path, TASK)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    cut = tokenizer(base / "tokenizer.json", spec.model.max_tokens)
    older = grown_from_parent(spec, base, parent)
    texts = [row.text for row in (holdout or rows)][:PROBE_TEXTS]
    source = _source(spec, base, older, texts, cache, say)
    encoder = Encoder(source.content, cut, threads=spec.fit.threads)
    states = encoder.states(
        [row.text for row in rows], tick=lambda done, of: say("fit", done, of, "states of tokens")
    )
    labels = [row.label for row in rows]
    classes = classes_of(load(TASK), labels)
    say("fit", 0, 1, f"head over {sum(map(len, states.states))} tokens")
    head = fit_tagger(states, labels, classes, weigh(rows, spec.fit, stand_for=stand_for))
    say("export", 0, 1, "head into the graph")
    (out / MODEL).write_bytes(tagged_graph(source.content, head))
    say("parity", 0, 1, "graph against torch, token by token")
    proof = _proved(spec, out, base, head, encode(cut, texts), source)
    say("seal", 0, 1, "figures, hold-out, manifest")
    report = examine(
        Examined(
            spec=spec,
            encoder=encoder,
            head=head,
            classes=classes,
            out=out,
            rows=rows,
            holdout=holdout,
            parent=older,
        )
    )
    manifest = Manifest(
        task=TASK,
        model=spec.model.name,
        labels=classes,
        base=spec.model.base,
        base_sha256=base_sha256(base),
        data=DataPrint(sha256=data.sha256, rows=data.rows),
        spec=spec.model_dump(mode="json"),
        max_tokens=spec.model.max_tokens,
        temperature=report["holdout"]["temperature"],
        metrics=flat(report) | {"trained_rows": len(rows), "fit": {"rung": "head"}},
        findings=recorded(findings),
        dropped=sorted({*range(len(replayed))} - {*left}),
        parity=proof,
        attention=source.attention,
        parent=parent.name if parent is not None else None,
        rung="head",
        seed=spec.fit.seed,
        created_at=now,
        versions=versions(),
    )
    write_bytes(out / TOKENIZER, cut.to_str().encode())
    write_bytes(out / NEAREST, nearest_bytes(states.embeddings, spec.fit.seed))
    write_holdout(holdout, out / HOLDOUT)
    write_bytes(out / REPORT, json.dumps(report, indent=1, allow_nan=False).encode())
    write_bytes(out / CARD, card(manifest, report, licence(base, spec.model.base)).encode())
    seal(out, manifest)
    progress(Progress(stage="seal", done=1, message="sealed"))
    return out


def _sifted(
    spec: TrainSpec, rows: Sequence[Row], holdout: Sequence[HoldoutRow], base: Path
) -> tuple[list[Finding], list[int]]:
    """(findings, positions to learn from); FindingError where a finding refuses."""
    findings = look(
        rows,
        holdout,
        base / "tokenizer.json",
        max_tokens=spec.model.max_tokens,
        on_finding=spec.data.on_finding,
    )
    refuse(findings)
    return findings, kept(len(rows), findings)


def _source(
    spec: TrainSpec, base: Path, older: Version | None, texts: list[str], cache: Path, say: Any
) -> EncoderGraph:
    """The graph of the frozen encoder: the parent's own, or that of the base model."""
    if older is not None:
        return of_parent(older)
    return of_base(
        base,
        texts,
        spec.gate,
        cache=cache,
        threads=spec.fit.threads,
        say=lambda step, attention: say("fit", 0, 1, f"{step} of the encoder, {attention} attention"),
    )


def _proved(
    spec: TrainSpec,
    out: Path,
    base: Path,
    head: Head,
    ids: Sequence[list[int]],
    source: EncoderGraph,
) -> Parity:
    """The graph against torch: only a head was trained, so the base model is its encoder."""
    threads = spec.fit.threads
    return prove(
        Graph(out / MODEL, threads=threads),
        head,
        torch_encoder(base, threads),
        ids,
        spec.gate,
        max_tokens=spec.model.max_tokens,
        earlier=source.parity,
    )


def _base_rows(rows: Sequence[Row]) -> int:
    return sum(row.origin == "base" for row in rows)
