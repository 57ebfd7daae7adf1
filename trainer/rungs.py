"""Rungs: how deep a training goes. Each turns rows into a graph on disk, and proves that it answers alike.

`head` trains what reads the embedding: the encoder is a graph already, so torch is not even imported.
`layers`, `adapter` and `full` train the encoder too, and export it; `auto` chooses among all four.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from tokenizers import Tokenizer

from trainer.artifact import MODEL, TRAINED, Parity, Version, read_optional
from trainer.crossfit import OutOfFold, out_of_fold
from trainer.encoder_graph import EncoderGraph, export_proven, of_base, of_parent
from trainer.errors import ParityError
from trainer.export import Attention
from trainer.fit import Fitted, fit, learnt_figures
from trainer.fitting.checkpoint import Facts
from trainer.fitting.weights import encoder_of
from trainer.graph import Graph
from trainer.head import STRENGTH, Anchor, Head, anchored, fit_head
from trainer.known import Known, trusted
from trainer.parity import probes
from trainer.penalty import choose
from trainer.rows import Row
from trainer.spec import TrainSpec
from trainer.splice import read_head, splice
from trainer.tasks import classes_of, load
from trainer.tokens import encode

Array = np.ndarray[Any, np.dtype[Any]]
Stage = Literal["data", "fit", "export", "parity", "seal"]
Say = Callable[[Stage, int, int, str], None]  # stage, rows done, rows in all, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a rung trains on and where it writes `model.onnx`."""

    spec: TrainSpec
    rows: Sequence[Row]
    weights: Array  # [rows], of a head; replay.weigh
    probe_texts: list[str]  # what the parity check runs on
    base: Path
    tokenizer: Tokenizer  # cuts at the length of the spec
    cache: Path
    out: Path
    parent: Version | None  # of the same encoder and length, to build on
    known: Known
    sift: Callable[[Array], list[int]]  # embeddings of the rows -> positions of those to learn from
    judged: Sequence[str] = ()  # texts of rows that a head is cross-fitted on
    say: Say
    checkpoints: Path  # folder of a training that may be resumed

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return encode(self.tokenizer, texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a rung made, beside the graph; `embeddings` are unit rows [rows, hidden] of the training texts.

    `report` says how it was trained, `files` what belongs into the version beside what every one has.
    """

    rung: str
    labels: list[str]
    embeddings: Array
    attention: Attention
    parity: Parity
    logits: Callable[[Sequence[str]], Array]  # texts -> [texts, labels], as the graph answers
    fitted: Fitted | None = None  # where the encoder was trained, too
    report: Facts = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    embed: Callable[[Sequence[str]], Array] | None = None  # by the parent's encoder, where it is kept
    unseen: OutOfFold | None = None  # answers to the judged texts


def make(given: Given) -> Made:
    """Train the rung of the spec; the same rows, spec, seed and parent give the same weights."""
    return _head(given) if given.spec.fit.rung == "head" else _deep(given)


def _head(given: Given) -> Made:
    threads = given.spec.fit.threads
    source = _encoder_graph(given)
    given.say("fit", 0, 1, "embedding")
    embed = _embedder(given, Graph(source.content, threads=threads))
    embeddings = embed([row.text for row in given.rows])
    left = given.sift(embeddings)
    task, said = load(given.spec.model.task), [given.rows[row].label for row in left]
    labels, anchor = _labels(given, classes_of(task, said))
    truth = task.targets(said, labels)
    how = How(
        classes=len(labels), anchor=anchor, strength=_strength(given, embeddings, left, truth, len(labels))
    )
    unseen = _unseen(given, embeddings, left, truth, how)
    embeddings = embeddings[left]
    head = fit_head(embeddings, truth, weights=given.weights[left], **how)
    given.say("export", 0, 1, "head into the graph")
    content = splice(source.content, head)
    (given.out / MODEL).write_bytes(content)
    given.say("parity", 0, 1, "graph against head")
    proof = _head_parity(given, content, head, source.parity)
    report = learnt_figures(head, embeddings, truth) | {"strength": how["strength"]}
    return Made(
        rung="head",
        labels=labels,
        embeddings=embeddings,
        attention=source.attention,
        parity=proof,
        logits=lambda texts: head.logits(embed(texts)),
        report=report | {"rung": "head", "encoder": encoder_of(given.parent) if given.parent else "base"},
        files=_inherited(given.parent),
        embed=embed if given.parent is not None else None,
        unseen=unseen,
    )


def _inherited(parent: Version | None) -> dict[str, bytes]:
    """What the parent's encoder was taught: a head on it leaves that as it is."""
    trained = read_optional(parent, TRAINED) if parent is not None else None
    return {} if trained is None else {TRAINED: trained}


def _labels(given: Given, learnt: list[str]) -> tuple[list[str], Anchor | None]:
    """The classes of a head; an anchored one also keeps those of its parent that have no rows any more."""
    if given.parent is None or not given.spec.fit.anchor:
        return learnt, None
    known = given.parent.manifest.labels
    labels = sorted({*learnt, *known})
    replayed = any(row.origin == "base" for row in given.rows)
    parent, strength = read_head(given.parent.model_bytes), given.spec.fit.anchor
    return labels, anchored(parent, known, labels, strength, replayed=replayed)


class How(TypedDict):
    """What a head is fitted by, beside rows."""

    classes: int
    anchor: Anchor | None
    strength: float


def _strength(given: Given, embeddings: Array, left: list[int], truth: Array, classes: int) -> float:
    """By the rows that are not judged: what proves a head may not have shaped it."""
    if given.spec.fit.anchor and given.parent is not None:
        return STRENGTH
    judged = set(given.judged)
    own = np.array([given.rows[row].text not in judged for row in left])
    return choose(embeddings[left][own], truth[own], classes=classes, seed=given.spec.fit.seed)


def _unseen(given: Given, embeddings: Array, left: list[int], truth: Array, how: How) -> OutOfFold | None:
    if not given.judged:
        return None
    every = np.full(len(given.rows), -1, dtype=np.int64)
    every[left] = truth
    given.say("fit", 0, 1, "cross-fitting")
    texts = [row.text for row in given.rows]
    return out_of_fold(given.judged, texts, embeddings, every, weights=given.weights, **how)


def _encoder_graph(given: Given) -> EncoderGraph:
    if given.parent is not None:
        return of_parent(given.parent)
    return of_base(
        given.base,
        given.probe_texts,
        given.spec.gate,
        cache=given.cache,
        threads=given.spec.fit.threads,
        say=lambda step, attention: given.say("fit", 0, 1, f"{step} of the encoder, {attention} attention"),
    )


def _embedder(given: Given, graph: Graph) -> Callable[[Sequence[str]], Array]:
    """Texts -> unit embeddings [texts, hidden], float32: from `known` where it can be trusted."""

    def compute(texts: Sequence[str]) -> Array:
        _, found = graph.answers(
            given.ids(texts), tick=lambda done, of: given.say("fit", done, of, "embedding")
        )
        return found

    found = dict(trusted(given.known, compute))

    def embed(texts: Sequence[str]) -> Array:
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, compute(missing), strict=True))
        return np.stack([found[text] for text in texts]).astype(np.float32)

    return embed


def _head_parity(given: Given, content: bytes, head: Head, encoder: Parity) -> Parity:
    """The spliced graph against the head applied to the graph's own embeddings; ParityError beyond the gate.

    The figure is the larger one of this and of the encoder's, which was proven when it was exported.
    """
    ids = probes(given.ids(given.probe_texts), max_tokens=given.spec.model.max_tokens)
    logits, embeddings = Graph(content, threads=given.spec.fit.threads).answers(ids)
    ours, gate = head.logits(embeddings), given.spec.gate
    worst = float(np.maximum(encoder.max_abs, np.abs(ours - logits).max()))
    agreed = float((ours.argmax(axis=1) == logits.argmax(axis=1)).mean())
    if not (worst <= gate.parity_max_abs and agreed >= gate.label_agreement):  # NaN must not pass
        raise ParityError(worst, gate.parity_max_abs, agreed, gate.label_agreement)
    return Parity(max_abs=worst, label_agreement=agreed, rows=len(ids))


def _deep(given: Given) -> Made:
    fitted = fit(
        given.spec,
        given.rows,
        given.base,
        sift=given.sift,
        say=lambda done, of, message: given.say("fit", done, of, message),
        folder=given.checkpoints,
        parent=given.parent,
    )
    return _exported(given, fitted) if fitted.encoder is not None else _climbed_nowhere(given, fitted)


def _climbed_nowhere(given: Given, fitted: Fitted) -> Made:
    """The head, on all rows that the gate left: no rung above was worth its cost."""
    started = given.spec.fit.start == "parent"
    rows = [given.rows[row] for row in fitted.kept]
    made = _head(
        replace(
            given,
            rows=rows,
            sift=lambda embeddings: list(range(len(embeddings))),
            parent=given.parent if started else None,
        )
    )
    return replace(made, report=made.report | fitted.report)


def _exported(given: Given, fitted: Fitted) -> Made:
    threads = given.spec.fit.threads
    chosen = probes(given.ids(given.probe_texts), max_tokens=given.spec.model.max_tokens)
    attention, proof = export_proven(
        fitted,
        given.out / MODEL,
        chosen,
        given.spec.gate,
        threads=threads,
        say=lambda step, attention: given.say(step, 0, 1, f"{attention} attention"),
    )
    graph = Graph(given.out / MODEL, threads=threads)
    return Made(
        rung=fitted.report["rung"],
        labels=fitted.labels,
        embeddings=fitted.embeddings,
        attention=attention,
        parity=proof,
        logits=lambda texts: graph.answers(given.ids(texts))[0],
        fitted=fitted,
        report=fitted.report,
        files=fitted.files,
    )
