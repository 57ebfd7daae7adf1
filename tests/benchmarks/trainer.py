"""Figures of the trainer on Banking77 and CLINC150 (`shared/data`, or TRUEUP_DATA), one JSON line each.

python -m tests.benchmarks.trainer rung DATA RUNG [--rows N] [--epochs N]   a sealed version, on all test rows
python -m tests.benchmarks.trainer rate DATA [--rows N] [--points N]        range test beside a grid, adapter
python -m tests.benchmarks.trainer padding DATA                             padded over useful tokens
python -m tests.benchmarks.trainer precision DATA                           steps of bf16 over those of fp32
python -m tests.benchmarks.trainer regularisation DATA [--rows N]           NEFTune and R-Drop beside neither
python -m tests.benchmarks.trainer                                          all; an hour of one core
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.clinc import data_folder
from trainer.artifact import open_version
from trainer.calibrate import ece
from trainer.encoder import embed, load_encoder
from trainer.fit import on_this_processor, use_threads
from trainer.fitting.loop import Parts, Training
from trainer.fitting.objective import row_losses
from trainer.fitting.rate import SHARE, range_test
from trainer.fitting.table import FitTable
from trainer.fitting.trained import Texts, Trained, first_trained
from trainer.graph import Graph
from trainer.head import Head, fit_head
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.settings import default_cache
from trainer.sources import encoder
from trainer.spec import parse_spec
from trainer.tasks import load
from trainer.tokens import encode, padded, shuffled, tokenizer
from trainer.train import write_request

Array = np.ndarray[Any, np.dtype[Any]]
LABEL = {"banking77": "label", "clinc150": "intent"}
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
MAX_TOKENS, PROVED = 64, 1500


def say(figure: str, **told: Any) -> None:
    """One line, with what it was measured on."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "peft", "onnxruntime-gpu")}
    machine = {"machine": platform.platform(), "cores": os.cpu_count()}
    print(json.dumps({"figure": figure, **told, **machine, "versions": versions}), flush=True)


def rows_of(data: str, split: str, limit: int | None = None) -> list[Row]:
    """Rows of a split, shuffled by a fixed seed; a limit takes the first of them."""
    lines = (data_folder() / data / "data.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if row["split"] == split and row[LABEL[data]] != "oos"]
    order = np.random.default_rng(0).permutation(len(found))[:limit]
    return [Row(text=found[i]["text"], label=found[i][LABEL[data]]) for i in order]


def rung(data: str, name: str, *, rows: int | None, epochs: int, fit: dict[str, Any]) -> None:
    """Train in a child as `trueup train` does, then ask the sealed graph the whole test part."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "version"
        began = time.monotonic()
        learnt, test = rows_of(data, "train", rows), rows_of(data, "test")
        _request(Path(folder), learnt, test, {"rung": name, "epochs": epochs, "threads": 1, **fit})
        command = [sys.executable, "-m", "trainer", f"{folder}/request.json", str(made)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout.splitlines()[-1])
        wall_s = time.monotonic() - began
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        told = _asked(made, test)
        fitted = open_version(made).manifest.metrics["fit"]
        say(
            "rung",
            data=data,
            rung=name,
            rows=len(learnt),
            epochs=epochs,
            **told,
            cpu_s=round(spent.ru_utime + spent.ru_stime, 1),
            wall_s=round(wall_s, 1),
            fit={key: value for key, value in fitted.items() if key != "curve"},
        )


def _request(folder: Path, learnt: list[Row], test: list[Row], fit: dict[str, Any]) -> None:
    snapshot, digest = write_snapshot(learnt, folder)
    known = {row.text for row in learnt}
    held = [HoldoutRow(text=row.text, label=row.label) for row in test if row.text not in known]
    write_holdout(held, folder / "holdout.parquet")
    spec = {
        "model": {"name": "bench", "max_tokens": MAX_TOKENS},
        "data": {"train": "train.jsonl"},
        "fit": fit,
    }
    write_request(
        folder / "request.json",
        parse_spec(spec),
        train=snapshot,
        holdout=folder / "holdout.parquet",
        sha256=digest,
        parent=None,
        cache=default_cache(),
    )


def _asked(made: Path, test: list[Row]) -> dict[str, Any]:
    version = open_version(made)
    labels = version.manifest.labels
    ids = encode(tokenizer(made / "tokenizer.json", MAX_TOKENS), [row.text for row in test])
    logits, _ = Graph(version.model_bytes, threads=1).answers(ids)
    truth = np.array([labels.index(row.label) for row in test])
    decode = load("classification").decode
    scores = decode(logits, version.manifest.temperature)
    return {
        "test_rows": len(test),
        "accuracy": round(float((logits.argmax(1) == truth).mean()), 4),
        "ece_before": round(ece(decode(logits, 1.0), truth), 4),
        "ece": round(ece(scores, truth), 4),
        "temperature": round(version.manifest.temperature, 3),
        "bytes": {path.name: path.stat().st_size for path in sorted(made.iterdir())},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Learnt rows, then test rows, embedded once."""

    texts: Texts
    head: Head
    learnt: int
    base: Path

    def training(self, fit: FitTable, rate: float) -> Training:
        trained = Trained(load_encoder(self.base), self.head, self.texts, fit, "adapter")
        parts = Parts(learnt=np.arange(self.learnt), validation=np.arange(0))
        return Training(trained, parts, fit, rate=rate)

    def losses(self) -> Array:
        return row_losses(self.head.logits(self.texts.frozen.embeddings), self.texts.truth)


def bench(data: str, rows: int, fit: FitTable) -> Bench:
    """The first `rows` training rows and at most PROVED test rows of their labels."""
    use_threads(1)
    base = encoder(default_cache())
    learnt, test = rows_of(data, "train", rows), rows_of(data, "test", PROVED)
    labels = sorted({row.label for row in learnt})
    test = [row for row in test if row.label in labels]
    ids = encode(tokenizer(base / "tokenizer.json", MAX_TOKENS), [row.text for row in [*learnt, *test]])
    truth = np.array([labels.index(row.label) for row in [*learnt, *test]])
    model = load_encoder(base)
    first = first_trained(model, fit, "adapter")
    frozen = embed(model, ids, layer=first, tick=lambda *_: None)
    head = fit_head(frozen.embeddings[:rows], truth[:rows], classes=len(labels))
    texts = Texts(ids=ids, truth=truth, frozen=frozen, first=first)
    return Bench(texts=texts, head=head, learnt=rows, base=base)


def rate(data: str, *, rows: int, points: int) -> None:
    """The range test's learning rate against a grid's best, by accuracy on the fixed test part."""
    fit = on_this_processor(FitTable(epochs=2, threads=1))
    given = bench(data, rows, fit)
    began = time.process_time()
    sweep = range_test(given.training(fit, 0.0), frozen=given.losses())
    sweep_s = time.process_time() - began
    found = {str(one): _accuracy(given, fit, one) for one in [*GRID[:points], sweep["chosen"]]}
    chosen = found[str(sweep["chosen"])]
    best = max(found[str(one)]["accuracy"] for one in GRID[:points])
    epoch_s = chosen["cpu_s"] / fit.epochs
    say(
        "learning rate",
        data=data,
        rows=rows,
        test_rows=len(given.texts.ids) - rows,
        chosen=sweep["chosen"],
        points_behind_best=round(100 * (best - chosen["accuracy"]), 2),
        share_of_an_epoch_rows=SHARE,
        precision=fit.precision,
        share_of_an_epoch_cpu=round(sweep_s / epoch_s, 3),
        grid=found,
    )


def _accuracy(given: Bench, fit: FitTable, one: float) -> dict[str, float]:
    training = given.training(fit, one)
    began = time.process_time()
    for batch in training.batches():
        training.step(batch, training.scheduled())
        training.at.step += 1
    cpu_s = time.process_time() - began
    test = np.arange(given.learnt, len(given.texts.ids))
    right = training.trained.logits(test).argmax(axis=1) == given.texts.truth[test]
    return {"accuracy": round(float(right.mean()), 4), "cpu_s": round(cpu_s, 2)}


def padding(data: str) -> None:
    """Tokens that a batch of 32 computes, over those that carry text, for every training row."""
    base = encoder(default_cache())
    texts = [row.text for row in rows_of(data, "train")]
    ids = encode(tokenizer(base / "tokenizer.json", 512), texts)
    lengths = [len(row) for row in ids]
    batches = shuffled(lengths, 32, np.random.default_rng(0))
    computed = sum(padded([ids[i] for i in batch])[0].size for batch in batches)
    say("padding", data=data, rows=len(ids), batch=32, factor=round(computed / sum(lengths), 4))


def precision(data: str) -> None:
    """Steps in a second, bf16 over fp32, alternating, and the accuracy of both."""
    tables = {name: FitTable(precision=name, threads=1) for name in ("fp32", "bf16")}
    given = bench(data, 1000, tables["fp32"])
    found = {name: _accuracy(given, table, 8e-3) for name, table in tables.items() for _ in range(2)}
    say(
        "bf16",
        data=data,
        rows=1000,
        speed=round(found["fp32"]["cpu_s"] / found["bf16"]["cpu_s"], 3),
        **{name: figures for name, figures in found.items()},
    )


def regularisation(data: str, *, rows: int, seeds: int = 2) -> None:
    """Accuracy of adapters with NEFTune, with R-Drop and with neither."""
    arms: dict[str, dict[str, float]] = {
        "neither": {}, "NEFTune 5": {"neftune_alpha": 5.0}, "R-Drop 1": {"rdrop_alpha": 1.0}
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    given = bench(data, rows, FitTable(threads=1))
    for seed in range(seeds):
        for name, more in arms.items():
            fit = on_this_processor(FitTable.model_validate({"epochs": 3, "threads": 1, "seed": seed} | more))
            found[name].append(_accuracy(given, fit, 8e-3))
    means = {
        name: round(100 * float(np.mean([one["accuracy"] for one in each])), 2)
        for name, each in found.items()
    }
    say("regularisation", data=data, rows=rows, rate=8e-3, accuracy=means, runs=found)


def everything() -> None:
    """All figures."""
    for data in LABEL:
        padding(data)
        rate(data, rows=2000, points=len(GRID))
        for name, epochs in (("head", 1), ("layers", 3), ("adapter", 3), ("auto", 3)):
            rung(data, name, rows=None, epochs=epochs, fit={})
        rung(data, "full", rows=2000, epochs=2, fit={})
        regularisation(data, rows=2000)
    precision("banking77")


def main(arguments: list[str]) -> None:
    """Run one figure, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "figure", nargs="?", choices=["rung", "rate", "padding", "precision", "regularisation"]
    )
    parser.add_argument("data", nargs="?", choices=list(LABEL), default="banking77")
    parser.add_argument("rung", nargs="?", default="adapter")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--points", type=int, default=len(GRID))
    parser.add_argument("--fit", type=json.loads, default={}, help="more of [fit], as JSON")
    given = parser.parse_args(arguments)
    figures: dict[str | None, Callable[[], None]] = {
        None: everything,
        "rung": lambda: rung(given.data, given.rung, rows=given.rows, epochs=given.epochs, fit=given.fit),
        "rate": lambda: rate(given.data, rows=given.rows or 2000, points=given.points),
        "padding": lambda: padding(given.data),
        "precision": lambda: precision(given.data),
        "regularisation": lambda: regularisation(given.data, rows=given.rows or 2000),
    }
    figures[given.figure]()


if __name__ == "__main__":
    main(sys.argv[1:])
