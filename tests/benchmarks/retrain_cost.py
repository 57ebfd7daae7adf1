"""What a head retrain costs with the real encoder, from stored embeddings to a sealed and a promoted version.

Usage: python -m tests.benchmarks.retrain_cost [train] [loop] [adapter] [--old ROWS] [--profile]
prints one JSON document. `train`: 1,000 new labels of Banking77 beside --old rows of the parent, CPU seconds
of the training process. `loop`: on CLINC150 80 intents are known, 70 arrive; seconds from the check that
pages, with 1,000 labels there, until the retrained version answers; `adapter`: the same by an adapter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.labels import record_labels
from monitor import jobs
from monitor.check import run_check
from monitor.migrate import upgrade
from monitor.retrain import Workshop, run_job
from monitor.settings import ModelSettings, MonitorSettings
from monitor.training import train_version
from tests.benchmarks.clinc import START, write_history
from tests.benchmarks.texts import read
from tests.monitor import tiny
from trainer.artifact import open_version
from trainer.graph import Graph
from trainer.known import write_known
from trainer.report import read_report
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.settings import TrainerSettings
from trainer.spec import TrainSpec, parse_spec
from trainer.tokens import encode, tokenizer
from trainer.train import Parent, write_request

LABELS, HELD = 1000, 300
MAX_TOKENS = 64
MODEL = "desks"  # as tests/monitor/tiny.py answers
CODE = "import sys; from trainer.__main__ import main; sys.exit(main(sys.argv[1:]))"


def _spec(train: Path | str) -> TrainSpec:
    return parse_spec(
        {
            "model": {"name": MODEL, "max_tokens": MAX_TOKENS},
            "data": {"train": str(train)},
            "fit": {"rung": "head", "threads": 2},
        }
    )


def spent(work: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of this process and its children while `work` runs."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before, began = [resource.getrusage(kind) for kind in kinds], time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, [resource.getrusage(kind) for kind in kinds]
    cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


class Trained:
    """Banking77: a parent of `old` rows, then a retrain on LABELS more whose embeddings are stored."""

    def __init__(self, home: Path, old: int) -> None:
        rows = read("banking77")
        random.Random(0).shuffle(rows)
        train = [row for row in rows if row["split"] == "train"]
        test = [row for row in rows if row["split"] != "train"]
        self._home = home
        self._old = [Row(text=row["text"], label=row["label"]) for row in train[:old]]
        learnt = train[old : old + LABELS]
        self._new = [Row(text=row["text"], label=row["label"], origin="traffic") for row in learnt]
        self._held = [HoldoutRow(text=row["text"], label=row["label"]) for row in test[:HELD]]
        later = test[HELD : 2 * HELD]
        self._recent = [HoldoutRow(text=row["text"], label=row["label"], slice="recent") for row in later]

    def first(self) -> None:
        self._train("v1", self._old, self._held, None)

    def store(self) -> None:
        """What the exporter keeps with each prediction."""
        graph = Graph(open_version(self._home / "v1").model_bytes, threads=2)
        texts = [row.text for row in self._new] + [row.text for row in self._recent]
        cut = tokenizer(self._home / "v1" / "tokenizer.json", MAX_TOKENS)
        _, found = graph.answers(encode(cut, texts))
        pairs = [(text, one.astype("<f2").tobytes()) for text, one in zip(texts, found, strict=True)]
        write_known(pairs, self._home / "known.parquet")

    def second(self, profile: Path | None = None) -> None:
        parent = Parent(name="v1", folder=self._home / "v1", known=self._home / "known.parquet")
        self._train("v2", [*self._old, *self._new], [*self._held, *self._recent], parent, profile)

    def figures(self) -> dict[str, Any]:
        return dict((read_report(self._home / "v2") or {})["holdout"])

    def _train(
        self,
        name: str,
        rows: Sequence[Row],
        holdout: Sequence[HoldoutRow],
        parent: Parent | None,
        profile: Path | None = None,
    ) -> None:
        snapshot, digest = write_snapshot(rows, self._home / "data")
        held, request = self._home / f"{name}.holdout.parquet", self._home / f"{name}.json"
        write_holdout(holdout, held)
        cache = TrainerSettings().cache
        write_request(
            request, _spec("-"), train=snapshot, holdout=held, sha256=digest, parent=parent, cache=cache
        )
        out = self._home / (name if profile is None else "profiled")
        script = request.with_suffix(".py")
        script.write_text(CODE, encoding="utf-8")
        how = ["-m", "trainer"] if profile is None else ["-m", "cProfile", "-o", str(profile), str(script)]
        subprocess.run([sys.executable, *how, str(request), str(out)], check=True, stdout=subprocess.DEVNULL)


def train(old: int, *, profile: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trained = Trained(Path(folder), old)
        trained.first()
        trained.store()
        found: dict[str, Any] = {"old_rows": old, "labels": LABELS, **spent(trained.second)}
        found |= {"aim_cpu_s": 10.0, "holdout": trained.figures()}
        if profile:
            trained.second(Path(folder) / "profile")
            found["profile"] = _profile(Path(folder) / "profile")
    return found


def _profile(path: Path) -> dict[str, float]:
    """Seconds, with what they call, of the steps of a training."""
    wanted = (
        "_find_and_load",
        "texts",
        "labels",
        "fit_head",
        "answers",
        "examine",
        "measure",
        "seal",
        "splice",
    )
    found: dict[str, float] = {}
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(str(path)).stats.items():  # type: ignore[attr-defined]
        if name in wanted and ("/trainer/" in file or name == "_find_and_load"):
            found[name] = round(found.get(name, 0.0) + cumulative, 2)
    return found


def loop(rung: Literal["head", "adapter"], *, aim_wall_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        history = write_history(home / "history.jsonl", clean=1800, drifted=LABELS)
        rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
        first = home / "first.jsonl"
        lines = [json.dumps({"text": row["text"], "label": row["intent"]}) for row in rows[:1500]]
        first.write_text("\n".join(lines), encoding="utf-8")
        db = open_database(sqlite_url(home))
        upgrade(db)
        settings = ModelSettings(window=300, min_labels=200, cooldown=0.0, retrain_rung=rung)
        monitor, trainer = MonitorSettings(), TrainerSettings()
        made, _ = train_version(
            db, home, _spec(first), first, trainer=trainer, progress=lambda _: None, now=START
        )
        registry.promote(db, MODEL, made, expected=None, reason="first", actor="bench")
        clean, drifted = rows[1500:1800], rows[1800:]
        tiny.answer(db, made, [row["text"] for row in clean], first=0, at=START + 1)
        run_check(db, home, MODEL, settings, monitor, now=START + 400)
        ids = tiny.answer(db, made, [row["text"] for row in drifted], first=300, at=START + 500)
        truth = [row["intent"] for row in drifted]  # most of them new to the model
        record_labels(db, list(zip(ids, truth, strict=True)), source="bench", now=START + 2000)
        told: dict[str, Any] = {}

        def work() -> None:
            result = run_check(db, home, MODEL, settings, monitor, now=START + 2000)
            told["paged"] = result.paged
            job = jobs.claim(db, "bench", lease_s=600)
            if job is None:
                return
            shop = Workshop(db=db, home=home, settings=settings, monitor=monitor, trainer=trainer)
            told["verdict"] = (run_job(shop, job) or {}).get("reasons")

        found = spent(work) | {"aim_wall_s": aim_wall_s} | told
        found["champion"] = registry.champion(db, MODEL)
        db.dispose()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["train", "loop", "adapter"])
    parser.add_argument("--old", type=int, default=8000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    document: dict[str, Any] = {
        "benchmark": "retrain_cost",
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("numpy", "scipy", "onnxruntime-gpu", "tokenizers")},
    }
    if "train" in arguments.parts:
        document["train"] = train(arguments.old, profile=arguments.profile)
    if "loop" in arguments.parts:
        document["loop"] = loop("head", aim_wall_s=60.0)
    if "adapter" in arguments.parts:
        document["adapter"] = loop("adapter", aim_wall_s=300.0)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
