"""The rungs that move the encoder, from rows to weights: frozen states once, then steps over them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import RANGE_TEST, TRAINED, Version
from trainer.encoder import Embedded, embed
from trainer.errors import SpecError
from trainer.fitting.checkpoint import Facts, Identity
from trainer.fitting.ladder import climb
from trainer.fitting.loop import Parts
from trainer.fitting.objective import right, row_losses
from trainer.fitting.phase import Outcome, Say, Work, train_rung
from trainer.fitting.rate import plot
from trainer.fitting.report import figures
from trainer.fitting.search import searched
from trainer.fitting.table import Deep, FitTable
from trainer.fitting.trackers import tracked
from trainer.fitting.trained import Texts, first_trained
from trainer.fitting.weights import Start, start_of, trained_bytes
from trainer.head import Head, fit_head
from trainer.rows import Row
from trainer.spec import TrainSpec
from trainer.split import stratified
from trainer.tasks import classes_of, load
from trainer.tokens import encode, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
Sift = Callable[[Array], list[int]]
LIBRARIES = ("torch", "transformers", "peft", "numpy", "scikit-learn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained version in memory; `embeddings` are unit rows [rows, hidden] of its training texts.

    `encoder` is None where the ladder ended at the head; `kept` are the positions of the rows learnt from,
    `report` what was tried, `files` what belongs beside the graph.
    """

    encoder: Any
    head: Head
    labels: list[str]
    embeddings: Array
    kept: list[int] = field(default_factory=list)
    report: Facts = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def fit(
    spec: TrainSpec,
    rows: Sequence[Row],
    base: Path,
    *,
    sift: Sift,
    say: Say,
    folder: Path,
    parent: Version | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Train on `rows`; the same rows, spec, seed and parent give the same weights.

    `sift` says from the first encoder's embeddings which rows to learn from; `folder` holds the checkpoints,
    from which an interrupted training of the same is resumed; `clock` says seconds. Raises any TrainerError.
    """
    use_threads(spec.fit.threads)
    spec = spec.model_copy(update={"fit": on_this_processor(spec.fit)})
    start = start_of(base, parent if spec.fit.start == "parent" else None)
    ids = encode(tokenizer(base / "tokenizer.json", spec.model.max_tokens), [row.text for row in rows])
    model = start.encoder()
    first = _first(model, spec.fit)
    frozen = embed(model, ids, layer=first, tick=lambda done, of: say(done, of, "embedding"))
    kept = sift(frozen.embeddings)
    ids, rows, frozen = [ids[row] for row in kept], [rows[row] for row in kept], frozen.take(kept)
    known = start.labels if spec.fit.anchor else []
    task, said = load(spec.model.task), [row.label for row in rows]
    labels = sorted({*classes_of(task, said), *known})
    truth = task.targets(said, labels)
    parts = _parts(rows, spec)
    with tracked(spec.fit.tracker, spec.model.name, spec.fit.model_dump(mode="json")) as track:
        work = Work(
            fit=spec.fit,
            start=start,
            texts=Texts(ids=ids, truth=truth, frozen=frozen, first=first),
            parts=parts,
            head=_first_head(start, known, labels, frozen, truth, parts.learnt),
            head_rows=[labels.index(label) for label in known],
            folder=folder,
            identity=_identity(spec, rows, start),
            say=say,
            track=track,
            clock=clock,
        )
        return _fitted(work, labels, kept)


def _fitted(work: Work, labels: list[str], kept: list[int]) -> Fitted:
    outcome, report = _trained(work)
    if outcome is None:
        embeddings = work.texts.frozen.embeddings
        return Fitted(
            encoder=None, head=work.head, labels=labels, embeddings=embeddings, kept=kept, report=report
        )
    encoder = outcome.trained.encoder
    head, embeddings = outcome.trained.finished()
    files = {TRAINED: trained_bytes(encoder, work.start.base)} if work.fit.keep_weights else {}
    if outcome.sweep is not None and outcome.sweep["rates"]:
        files[RANGE_TEST] = plot(outcome.sweep)
    learnt = work.parts.learnt
    report |= learnt_figures(head, embeddings[learnt], work.texts.truth[learnt]) | {"encoder": "trained"}
    return Fitted(
        encoder=encoder,
        head=head,
        labels=labels,
        embeddings=embeddings,
        kept=kept,
        report=report,
        files=files,
    )


def _trained(work: Work) -> tuple[Outcome | None, Facts]:
    rung = work.fit.rung
    if rung == "auto":
        outcome, tried, why = climb(work)
        chosen = {"rung": "head"} if outcome is None else outcome.report
        return outcome, chosen | {"rungs": tried, "why": why}
    assert rung != "head"
    if not work.fit.search_trials:
        outcome = train_rung(work, rung, work.fit, rung)
        return outcome, outcome.report
    outcome, trials = searched(work, rung)
    return outcome, outcome.report | {"trials": trials}


def learnt_figures(head: Head, embeddings: Array, truth: Array) -> Facts:
    """What a head says of the very rows it learnt from: {"train": accuracy, loss, rows}."""
    logits = head.logits(embeddings)
    loss = float(row_losses(logits, truth).mean())
    return {"train": figures(right(logits, truth), loss)}


def use_threads(threads: int) -> None:
    """Set torch's threads: its default spins all cores of a busy machine to a standstill."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def on_this_processor(fit: FitTable) -> FitTable:
    """With the precision of this processor; SpecError where it would only emulate the bfloat16 asked for."""
    import torch

    has = torch.cpu._is_avx512_bf16_supported()
    if fit.precision == "bf16" and not has:
        problem = "this processor has no bfloat16 (avx512_bf16)"
        raise SpecError("the spec", "fit.precision", problem, 'Use "auto".')
    return fit.model_copy(update={"precision": "bf16" if has and fit.precision != "fp32" else "fp32"})


def _first(model: Any, fit: FitTable) -> int | None:
    """The lowest layer that any rung to be trained moves: what enters it is kept."""
    rungs: list[Deep] = ["layers", "adapter"] if fit.rung == "auto" else [fit.rung]  # type: ignore[list-item]
    found = [first_trained(model, fit, rung) for rung in rungs]
    return None if None in found else min(layer for layer in found if layer is not None)


def _parts(rows: Sequence[Row], spec: TrainSpec) -> Parts:
    fit, everything = spec.fit, np.arange(len(rows))
    if not fit.validates:
        return Parts(learnt=everything, validation=everything[:0])
    _, held = stratified(rows, fit.validation_share, seed=fit.seed, task=spec.model.task)
    texts = {row.text for row in held}
    chosen = np.array([row.text in texts for row in rows])
    return Parts(learnt=everything[~chosen], validation=everything[chosen])


def _first_head(
    start: Start, known: list[str], labels: list[str], frozen: Embedded, truth: Array, learnt: Array
) -> Head:
    """A logistic head; rows of the labels in `known` are the parent's."""
    present, targets = _present(truth[learnt])
    fitted = fit_head(frozen.embeddings[learnt], targets, classes=len(present))
    weight = np.zeros((len(labels), fitted.weight.shape[1]), dtype=np.float32)
    bias = np.zeros(len(labels), dtype=np.float32)
    weight[present], bias[present] = fitted.weight, fitted.bias
    if known:
        assert start.head is not None
        places = [labels.index(label) for label in known]
        weight[places], bias[places] = start.head.weight, start.head.bias
    return Head(weight=weight, bias=bias)


def _present(truth: Array) -> tuple[Array, Array]:
    """(numbers of the labels that occur, the targets in them); of sets, of all labels."""
    if truth.ndim == 2:
        return np.arange(truth.shape[1]), truth
    return np.unique(truth, return_inverse=True)


def _identity(spec: TrainSpec, rows: Sequence[Row], start: Start) -> Identity:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{len(row.text)}\n{row.text}\n{len(row.label)}\n{row.label}\n".encode())
    libraries = " ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return Identity(
        data=digest.hexdigest(),
        spec=f"{spec.fit.sha256()} {spec.model.max_tokens}",
        base=start.sha256(),
        libraries=libraries,
    )
