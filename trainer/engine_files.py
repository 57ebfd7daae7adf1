"""Graphs for engines beside the single-precision one: made, measured on the hold-out, kept within [gate].

Each is measured against `model.onnx`, which was proven against the trained model before. A refused engine has
its reason in the manifest, and no file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifact import INT8, MODEL, PACKED, PLAIN_ENGINES, EngineFile, Parity, Precision
from trainer.encoder_graph import packed_of_base
from trainer.errors import ExportError
from trainer.export import export_packed
from trainer.graph import Graph
from trainer.packed_reference import PackedReference
from trainer.quantise import Care, quantise
from trainer.rows import HoldoutRow
from trainer.rungs import Given, Made
from trainer.spec import GateTable
from trainer.splice import read_head, splice

Array = np.ndarray[Any, np.dtype[Any]]
Ids = Sequence[Sequence[int]]
CALIBRATION_TEXTS = 96
MEASURED_TASK = "classification"
LEAST_ROWS = 100  # of fewer, agreement on 99.5 % says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Labelled hold-out texts, newest last: token numbers, logits of `model.onnx`, label numbers [rows]."""

    ids: list[list[int]]
    logits: Array
    truth: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How an engine's graphs are made, the fastest first, and asked; `rows` is how many texts at most."""

    file: str
    precision: Precision
    rows: int
    make: Callable[[Given, Made], Iterator[bytes]]
    logits: Callable[[bytes, Ids, int], Array]


def engine_files(given: Given, made: Made, holdout: Sequence[HoldoutRow]) -> dict[str, EngineFile]:
    """Write what the spec asks for beside `model.onnx`; engines by name, the preferred ones first."""
    plain = {name: EngineFile(file=MODEL, precision="fp32", parity=made.parity) for name in PLAIN_ENGINES}
    wanted = [name for name in given.spec.export.engines if name in KINDS]
    if not wanted:
        return plain
    if given.spec.model.task != MEASURED_TASK:
        why = f"what it costs is measured for the task {MEASURED_TASK} only"
        return plain | {
            name: EngineFile(file=KINDS[name].file, precision=KINDS[name].precision, refused=why)
            for name in wanted
        }
    exam = _exam(given, made, holdout, rows=max(KINDS[name].rows for name in wanted))
    tried = {name: _tried(name, given, made, exam) for name in wanted}
    return {name: one for name, one in tried.items() if one.refused is None} | plain | tried


def refusal(parity: Parity, precision: Precision, gate: GateTable) -> str | None:
    """Why an engine of this precision may not serve, None where it may.

    >>> refusal(Parity(max_abs=0.2, label_agreement=0.99, rows=200, accuracy_loss=0), "int8", GateTable())
    'it gives the label of model.onnx to 99.00 % of 200 texts (required 99.50 %)'
    """
    half = precision == "fp16"
    farthest = gate.fp16_max_abs if half else gate.int8_max_abs
    required = gate.fp16_label_agreement if half else gate.int8_label_agreement
    if not parity.max_abs <= farthest:  # NaN must not pass
        return f"a logit differs by {parity.max_abs:.3g} (allowed {farthest:.3g})"
    if not parity.label_agreement >= required:
        share = f"{100 * parity.label_agreement:.2f} % of {parity.rows} texts"
        return f"it gives the label of {MODEL} to {share} (required {100 * required:.2f} %)"
    loss = parity.accuracy_loss or 0.0
    if loss > gate.accuracy_loss + 1e-9:  # three of a thousand rows are no more than 0.003
        return f"{100 * loss:.2f} points of accuracy are lost (allowed {100 * gate.accuracy_loss:.2f})"
    return None


def _exam(given: Given, made: Made, holdout: Sequence[HoldoutRow], *, rows: int) -> Exam:
    numbers = {label: number for number, label in enumerate(made.labels)}
    known = [row for row in holdout if row.label in numbers][-rows:]
    ids = given.ids([row.text for row in known]) if known else []
    enough = len(ids) >= LEAST_ROWS
    # Not made.logits: where embeddings were served already, it may know them from the engine on trial.
    graph = Graph(given.out / MODEL, threads=given.spec.fit.threads)
    return Exam(
        ids=ids,
        logits=graph.answers(ids)[0] if enough else np.zeros((0, len(numbers))),
        truth=np.array([numbers[str(row.label)] for row in known], dtype=np.int64),
    )


def _tried(name: str, given: Given, made: Made, exam: Exam) -> EngineFile:
    kind = KINDS[name]
    found = EngineFile(file=kind.file, precision=kind.precision, refused="it could not be made")
    if len(exam.ids) < LEAST_ROWS:
        why = f"it would be proven on {len(exam.ids)} labelled hold-out rows; {LEAST_ROWS} are needed"
        return found.model_copy(update={"refused": why})
    given.say("export", 0, 1, kind.file)
    try:
        for content in kind.make(given, made):
            given.say("parity", 0, 1, kind.file)
            found = _measured(kind, content, given, exam)
            if found.refused is None:
                (given.out / kind.file).write_bytes(content)
                break
    except ExportError as error:
        return found.model_copy(update={"refused": error.why})
    return found


def _measured(kind: Kind, content: bytes, given: Given, exam: Exam) -> EngineFile:
    logits = kind.logits(content, exam.ids[-kind.rows :], given.spec.fit.threads)
    parity = _compared(logits, exam.logits[-kind.rows :], exam.truth[-kind.rows :])
    return EngineFile(
        file=kind.file,
        precision=kind.precision,
        parity=parity if np.isfinite(parity.max_abs) else None,  # JSON has no number for it
        refused=refusal(parity, kind.precision, given.spec.gate),
    )


def _compared(logits: Array, single: Array, truth: Array) -> Parity:
    theirs, ours = logits.argmax(axis=1), single.argmax(axis=1)
    return Parity(
        max_abs=float(np.abs(logits - single).max()),
        label_agreement=float((theirs == ours).mean()),
        rows=len(truth),
        accuracy_loss=float((ours == truth).mean() - (theirs == truth).mean()),
    )


def _spliced(given: Given, file: str) -> bytes | None:
    """The parent's graph of this file under the new head."""
    if given.parent is None or file not in given.parent.variants:
        return None
    return splice(given.parent.variants[file], read_head((given.out / MODEL).read_bytes()))


def _int8(given: Given, _: Made) -> Iterator[bytes]:
    """All products of integers, the parent's if it has them; then with care for what costs most accuracy."""
    inherited = _spliced(given, INT8)
    if inherited is not None:
        yield inherited
    spread = np.unique(np.linspace(0, len(given.rows) - 1, CALIBRATION_TEXTS).astype(int))
    ids = given.ids([given.rows[row].text for row in spread])
    content, threads = (given.out / MODEL).read_bytes(), given.spec.fit.threads
    cares: tuple[Care, ...] = ("none", "outliers", "gelu")
    for care in cares[inherited is not None :]:
        yield quantise(content, ids, threads=threads, care=care)


def _half(given: Given, made: Made) -> Iterator[bytes]:
    inherited = _spliced(given, PACKED)
    if inherited is not None:
        yield inherited
    elif made.fitted is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / MODEL
            export_packed(made.fitted, path)
            content = path.read_bytes()
        yield content
    elif given.parent is not None:
        raise ExportError("the parent has no padding-free graph, and a new head alone makes none")
    else:
        head = read_head((given.out / MODEL).read_bytes())
        yield splice(packed_of_base(given.base, cache=given.cache, threads=given.spec.fit.threads), head)


def _alone(content: bytes, ids: Ids, threads: int) -> Array:
    """Each text by itself at its own length, as an engine of int8 may run it."""
    graph = Graph(content, threads=1)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(lambda row: graph.run([row])[0], ids)))


def _reference(content: bytes, ids: Ids, threads: int) -> Array:
    """The padding-free graph in mixed batches, where there may be no GPU."""
    graph = PackedReference(content, threads=threads)
    return np.concatenate([graph.run(ids[start : start + 16])[0] for start in range(0, len(ids), 16)])


KINDS = {
    "cpu-int8": Kind(file=INT8, precision="int8", rows=1000, make=_int8, logits=_alone),
    "cuda-fp16-packed": Kind(file=PACKED, precision="fp16", rows=200, make=_half, logits=_reference),
}
