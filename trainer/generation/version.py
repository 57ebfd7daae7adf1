"""From rows to a sealed language model: gate, fit, merged export, proof, figures, seal."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer.artifact import CARD, HOLDOUT, REPORT, DataPrint, EngineFile, Manifest, Parity
from trainer.decoder import TASK
from trainer.decoder.base import resolve_decoder
from trainer.decoder.errors import PerplexityError
from trainer.decoder.export import Precision
from trainer.decoder.graph import MODEL, DecoderGraph
from trainer.decoder.make import ENGINES, exported, versions
from trainer.decoder.proof import Gate, Proof, prove
from trainer.decoder.sealed import (
    ADAPTER,
    ANSWERS,
    PARENTS_ANSWERS,
    DecoderVersion,
    open_decoder,
    seal_decoder,
)
from trainer.findings import recorded
from trainer.fitting.checkpoint import Checkpoints, Identity, beside
from trainer.generation.answers import Said, write_answers
from trainer.generation.card import card
from trainer.generation.decoder import save_adapter, save_merged
from trainer.generation.fit import Moment
from trainer.generation.json_answers import follows
from trainer.generation.parent import parents_answers
from trainer.generation.report import Examined, examine, flat
from trainer.generation.rows import Sample, read_samples
from trainer.generation.settings import GenerationFit
from trainer.generation.stored import sample_of
from trainer.generation.tune import Tuned, tune
from trainer.progress import Progress, Report
from trainer.report import asked
from trainer.rows import HoldoutRow, Row, write_holdout
from trainer.sources import base_sha256
from trainer.spec import TrainSpec
from trainer.tabular import write_bytes
from trainer.tasks import load

if TYPE_CHECKING:
    from trainer.train import DataRef, Parent

LIBRARIES = ("torch", "transformers", "peft")  # whose arithmetic a checkpoint is


def train_decoder(
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

    As trainer.train.train: a death at any point leaves no manifest in `out`, and the same training goes on
    from `checkpoints`. Raises any TrainerError.
    """
    checkpoints = checkpoints or beside(out)
    progress(Progress(stage="data", message=f"{len(train_rows)} rows"))
    base = resolve_decoder(spec.model.base, cache)
    general = read_samples(spec.data.general) if spec.data.general is not None else []
    if spec.generation.answer_schema is not None:
        follows(spec.generation.answer_schema)  # what is wrong with it is told before the fit
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="trueup-decoder-", dir=out.parent) as scratch:
        made = _Making(spec, base, Path(scratch), out, progress)
        tuned = made.tuned(train_rows, holdout, parent, checkpoints)
        graph, proof, engines = made.proved(tuned, train_rows, holdout)
        rows = asked(holdout, [], spec.evaluate.rows, task=load(TASK))
        examined = Examined(
            spec=spec,
            tuned=tuned,
            graph=graph,
            rows=[made.sample(row) for row in rows],
            general=general,
            parent=made.parents,
            say=progress,
        )
        report, answers = examine(examined, proof)
        graph.release()
        recent = [row for row in rows if row.slice == "recent"]
        parents = made.parents_answers(recent, parent)
        progress(Progress(stage="seal", message="figures, hold-out, manifest"))
        for name in ADAPTER:
            write_bytes(out / name, (made.adapter / name).read_bytes())
    manifest = Manifest(
        **_provenance(spec, base, data, parent),
        max_tokens=min(spec.model.max_tokens, graph.context),
        metrics=flat(report) | {"trained_rows": tuned.rows},
        findings=recorded(tuned.findings),
        dropped=tuned.dropped,
        parity=Parity(max_abs=proof.max_abs, label_agreement=proof.equal / proof.prompts, rows=proof.prompts),
        engines=engines,
        created_at=now,
    )
    write_holdout(holdout, out / HOLDOUT)
    write_answers(holdout, rows, answers, out / ANSWERS)
    if parents:
        write_answers(holdout, recent, parents, out / PARENTS_ANSWERS)
    write_bytes(out / REPORT, json.dumps(report, indent=1, allow_nan=False).encode())
    write_bytes(out / CARD, card(manifest, report).encode())
    seal_decoder(out, manifest)
    shutil.rmtree(checkpoints, ignore_errors=True)
    progress(Progress(stage="seal", done=1, message="sealed"))
    return out


def _provenance(spec: TrainSpec, base: Path, data: DataRef, parent: Parent | None) -> dict[str, Any]:
    """What a manifest says of where a version comes from."""
    return {
        "task": TASK,
        "model": spec.model.name,
        "labels": [],
        "base": spec.model.base,
        "base_sha256": base_sha256(base),
        "data": DataPrint(sha256=data.sha256, rows=data.rows),
        "spec": spec.model_dump(mode="json"),
        "temperature": 1.0,
        "parent": parent.name if parent is not None else None,
        "rung": "adapter",
        "seed": spec.fit.seed,
        "versions": versions(),
    }


@dataclass(slots=True)
class _Making:
    """The steps of one version; what is only needed on the way lies in `scratch`."""

    spec: TrainSpec
    base: Path
    scratch: Path
    out: Path
    say: Report

    @property
    def adapter(self) -> Path:
        """Where the fitted adapter is written."""
        return self.scratch / "adapter"

    @property
    def parents(self) -> Path | None:
        """The parent's adapter, where there is one on the same base."""
        folder = self.scratch / "parent"
        return folder if folder.is_dir() else None

    def sample(self, row: Row | HoldoutRow) -> Sample:
        return sample_of(row, self.spec.generation.form)

    def tuned(
        self, rows: Sequence[Row], holdout: Sequence[HoldoutRow], parent: Parent | None, checkpoints: Path
    ) -> Tuned:
        """The fitted adapter on its base, and written beside."""
        shared = self.spec.fit
        fit = self.spec.generation.fit(
            seed=shared.seed, threads=shared.threads, replay_rows=shared.replay_rows
        )
        if parent is not None and parent.folder is not None:
            _unpack(open_decoder(parent.folder), self.base, self.scratch / "parent")
        begin = self.parents if shared.start == "parent" else None
        done = tune(
            self.base,
            [self.sample(row) for row in rows],
            [self.sample(row) for row in holdout if row.label is not None],
            fit,
            on_finding=self.spec.data.on_finding,
            watch=self._watch,
            checkpoints=Checkpoints(checkpoints / "generation", _identity(rows, fit, self.base, begin)),
            adapter=begin,
        )
        save_adapter(done.decoder, self.adapter)
        return done

    def parents_answers(self, rows: Sequence[HoldoutRow], parent: Parent | None) -> list[Said]:
        """To rows that its parent's hold-out has not; none where nothing is to be compared."""
        if parent is None or parent.folder is None or not rows:
            return []
        return parents_answers(
            open_decoder(parent.folder),
            [self.sample(row) for row in rows],
            tokens=self.spec.generation.answer_tokens,
            threads=self.spec.fit.threads,
            scratch=self.scratch / "tokenizer",
            say=self.say,
        )

    def proved(
        self, tuned: Tuned, rows: Sequence[Row], holdout: Sequence[HoldoutRow]
    ) -> tuple[DecoderGraph, Proof, dict[str, EngineFile]]:
        """The merged model exported into `out`, how it compares with torch's, and what was refused."""
        spec = self.spec.generation
        merged = save_merged(self.base, self.adapter, self.scratch / "merged")
        samples = [*map(self.sample, holdout), *map(self.sample, rows)]
        prompts = [*map(tuned.decoder.template.prompt, samples[: 2 * spec.proof_prompts])]
        room = tuned.decoder.context - spec.answer_tokens
        short = [ids for ids in prompts if 1 < len(ids) <= room][: spec.proof_prompts]
        if spec.export != "auto":
            graph, proof = self._proved(merged, short, spec.export)
            return graph, proof, {ENGINES[spec.export]: EngineFile(file=MODEL, precision=spec.export)}
        try:
            graph, proof = self._proved(merged, short, "int4")
        except PerplexityError as error:
            graph, proof = self._proved(merged, short, "fp32")
            refused = EngineFile(file=MODEL, precision="int4", refused=str(error))
            served = EngineFile(file=MODEL, precision="fp32")
            return graph, proof, {ENGINES["fp32"]: served, f"{ENGINES['int4']}-int4": refused}
        return graph, proof, {ENGINES["int4"]: EngineFile(file=MODEL, precision="int4")}

    def _proved(
        self, merged: Path, ids: Sequence[Sequence[int]], precision: Precision
    ) -> tuple[DecoderGraph, Proof]:
        spec = self.spec.generation
        self.say(Progress(stage="export", message=f"{precision}, adapter merged"))
        graph = exported(merged, self.out, precision, threads=self.spec.fit.threads)
        self.say(Progress(stage="parity", message=f"{precision}: greedy answers to {len(ids)} prompts"))
        gate = Gate(tokens=min(Gate().tokens, spec.answer_tokens), perplexity_rise=spec.perplexity_rise)
        return graph, prove(graph, merged, ids, gate, precision)

    def _watch(self, moment: Moment) -> None:
        held = "" if moment.held_out is None else f", validation {moment.held_out:.3f}"
        self.say(
            Progress(
                stage="fit",
                done=moment.step,
                total=moment.steps,
                message=f"loss {moment.loss:.3f}{held}",
                eta_s=moment.eta_s,
            )
        )


def _unpack(version: DecoderVersion, base: Path, folder: Path) -> None:
    """Write a version's adapter, from the bytes that were verified; nothing where it is of another base."""
    if version.manifest.base_sha256 != base_sha256(base) or not version.files.keys() >= {*ADAPTER}:
        return
    folder.mkdir()
    for name in ADAPTER:
        (folder / name).write_bytes(version.files[name])


def _identity(rows: Sequence[Row], fit: GenerationFit, base: Path, adapter: Path | None) -> Identity:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{len(row.text)}\n{row.text}\n{len(row.label)}\n{row.label}\n".encode())
    begin: Any = hashlib.sha256(base_sha256(base).encode())
    for name in ADAPTER if adapter is not None else ():
        assert adapter is not None
        begin.update((adapter / name).read_bytes())
    return Identity(
        data=digest.hexdigest(),
        spec=hashlib.sha256(fit.model_dump_json().encode()).hexdigest(),
        base=begin.hexdigest(),
        libraries=" ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES),
    )
