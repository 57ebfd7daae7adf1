"""The exporter on MiniLM: seconds of each graph, of a new head, of a first answer; what precisions cost.

    python -m tests.benchmarks.exports times        kept under tests/benchmarks/results/
    python -m tests.benchmarks.exports newsgroups   or banking77: agreement and accuracy of int8 and fp16

Mail of 20 Newsgroups and, where TRUEUP_DATA holds it, Banking77: a head is fitted on the graph's embeddings,
and each graph is asked row by row. `cpu_ms` is processor time of one thread a text.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tests.benchmarks.clinc import data_folder
from tests.benchmarks.kept import keep
from tests.exporter.versions import build_version
from trainer.artifact import Parity, open_version, seal
from trainer.encoder import load_encoder
from trainer.engine_files import refusal
from trainer.export import export, export_packed
from trainer.fit import Fitted, use_threads
from trainer.graph import Graph
from trainer.head import Head, fit_head
from trainer.packed_reference import PackedReference
from trainer.quantise import quantise
from trainer.settings import default_cache
from trainer.sources import encoder, newsgroups, read_newsgroups
from trainer.spec import GateTable
from trainer.splice import splice
from trainer.tokens import encode, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
Text = tuple[str, str]
Data = tuple[list[Text], list[Text], int]  # to train on, to ask, tokens


def main(part: str) -> None:
    """One JSON line a measurement."""
    base = encoder(default_cache())
    with tempfile.TemporaryDirectory() as folder:
        found, single, packed = _exported(base, Path(folder))
        if part == "times":
            found.append(_first_answer(Path(folder), single))
            print(json.dumps(keep("exports", {"rows": found}, threads=1)))
            return
        data = {"newsgroups": _mail, "banking77": _banking}[part]()
        if data is None:
            print(json.dumps({"skipped": f"{part}: not under TRUEUP_DATA"}))
        else:
            _asked(part, data, base, single, packed)


def _first_answer(folder: Path, single: bytes) -> dict[str, Any]:
    """From verified bytes on disk to the first answer, in a process that has imported nothing; three runs."""
    directory = build_version(folder / "v", labels=["a", "b"])
    manifest = open_version(directory).manifest
    target = folder / "minilm"
    target.mkdir()
    for name in ("nearest.npy", "holdout.parquet"):
        shutil.copy(directory / name, target)
    np.save(target / "nearest.npy", np.full((2000, 384), 384**-0.5, dtype=np.float16))
    shutil.copy(encoder(default_cache()) / "tokenizer.json", target)
    (target / "model.onnx").write_bytes(single)
    seal(target, manifest.model_copy(update={"files": {}, "max_tokens": 256}))
    asked = "; ".join(
        (
            "import sys, time",
            "began = time.perf_counter()",
            "from pathlib import Path",
            "from exporter.engines import open_engine",
            "from trainer.artifact import open_version",
            "engine = open_engine(open_version(Path(sys.argv[1])), threads=1)",
            "engine.run(['where is my card'])",
            "print(time.perf_counter() - began)",
        )
    )
    command = [sys.executable, "-c", asked, str(target)]
    seconds = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3)]
    return {"what": "load to first answer, with imports", "s": round(median(seconds), 2)}


def _exported(base: Path, folder: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    use_threads(1)
    head = Head(weight=np.ones((2, 384), "f4"), bias=np.zeros(2, "f4"))
    made = Fitted(encoder=load_encoder(base), head=head, labels=["a", "b"], embeddings=np.zeros((1, 384)))
    found = [
        _timed("export, fp32", lambda: export(made, folder / "model.onnx", "fused")),
        _timed("export, fp16 packed", lambda: export_packed(made, folder / "packed.onnx")),
    ]
    single, packed = ((folder / name).read_bytes() for name in ("model.onnx", "packed.onnx"))
    found.append(_timed("a new head, fp32", lambda: splice(single, head)))
    found.append(_timed("a new head, fp16 packed", lambda: splice(packed, head)))
    return found, single, packed


def _timed(what: str, work: Callable[[], Any]) -> dict[str, Any]:
    began, spent = time.monotonic(), time.process_time()
    work()
    cpu = round(time.process_time() - spent, 2)
    return {"what": what, "s": round(time.monotonic() - began, 2), "cpu_s": cpu}


def _asked(name: str, data: Data, base: Path, single: bytes, packed: bytes) -> None:
    rows, asked, tokens = data
    cut = tokenizer(base / "tokenizer.json", tokens)
    labels = sorted({label for _, label in rows})
    ids = encode(cut, [text for text, _ in rows])
    graph = Graph(single, threads=1)
    truth = np.array([labels.index(label) for _, label in rows])
    head = fit_head(graph.answers(ids)[1], truth, classes=len(labels))
    spread = np.linspace(0, len(ids) - 1, 96).astype(int)
    shown = [ids[row] for row in spread]
    began = time.process_time()
    graphs = {"int8": quantise(single, shown, threads=1)}
    print(json.dumps({"what": "quantise", "data": name, "cpu_s": round(time.process_time() - began, 2)}))
    for care in ("outliers", "gelu"):
        graphs[f"int8, care for {care}"] = quantise(single, shown, threads=1, care=care)
    questions = encode(cut, [text for text, _ in asked])
    right = np.array([labels.index(label) for _, label in asked])
    ours = None
    asked_of: dict[str, Graph | PackedReference] = {"fp32": graph}
    asked_of |= {kind: Graph(content, threads=1) for kind, content in graphs.items()}
    for precision, other in (asked_of | {"fp16": PackedReference(packed, threads=1)}).items():
        few = questions if precision != "fp16" else questions[:200]
        spent = time.process_time()
        theirs = _row_by_row(other, head, few)
        seconds = time.process_time() - spent
        ours = theirs if ours is None else ours
        parity = _parity(theirs, ours[: len(few)], right[: len(few)])
        line = {
            "data": name,
            "precision": precision,
            **parity.model_dump(),
            "cpu_ms": 1000 * seconds / len(few),
        }
        line["accuracy"] = float((theirs.argmax(1) == right[: len(few)]).mean())
        line["refused"] = refusal(parity, "fp16" if precision == "fp16" else "int8", GateTable())
        told = {key: round(one, 5) if isinstance(one, float) else one for key, one in line.items()}
        print(json.dumps(told), flush=True)


def _row_by_row(graph: Graph | PackedReference, head: Head, ids: list[list[int]]) -> Array:
    return head.logits(np.concatenate([graph.run([row])[1] for row in ids]))


def _parity(theirs: Array, ours: Array, right: Array) -> Parity:
    same, mine = theirs.argmax(1), ours.argmax(1)
    return Parity(
        max_abs=float(np.abs(theirs - ours).max()),
        label_agreement=float((same == mine).mean()),
        rows=len(right),
        accuracy_loss=float((mine == right).mean() - (same == right).mean()),
    )


def _mail() -> Data | None:
    mail = read_newsgroups(newsgroups(default_cache()))
    random.Random(0).shuffle(mail)
    return mail[:1600], mail[1600:2600], 128


def _banking() -> Data | None:
    path = data_folder() / "banking77" / "data.jsonl"
    if not path.is_file():
        return None
    parts: dict[str, list[Text]] = {"train": [], "test": []}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        parts[row["split"]].append((row["text"], row["label"]))
    for part in parts.values():
        random.Random(0).shuffle(part)
    return parts["train"][:4000], parts["test"][:1500], 64


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "times")
