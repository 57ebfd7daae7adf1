"""Kill -9 of a training at twelve points, over and over: what it ends in is compared with an undisturbed one.

python -m tests.benchmarks.trainer_faults [--faults N] [--seconds S]

A round kills one training at every point in turn, at steps drawn by its seed, on a tiny encoder; the version
that it ends in must be whole and hold the very weights of a training that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainer.conftest import fit_toy, toy_rows, write_base
from tests.trainer.dying_trainer import POINTS
from trainer.artifact import TRAINED, open_version
from trainer.errors import VersionRefusedError
from trainer.fitting.checkpoint import beside
from trainer.rows import HoldoutRow, write_holdout, write_snapshot
from trainer.spec import TrainSpec, parse_spec
from trainer.train import write_request

STEPPED = ("step", "tensors", "facts", "manifest", "rename", "forget")  # come by at every step
RUNGS = ("layers", "adapter", "full")


def spec_of(base: Path, seed: int) -> TrainSpec:
    """A checkpoint after every step; the rung changes with the seed."""
    fit = {"rung": RUNGS[seed % 3], "epochs": 6, "batch_size": 8, "threads": 1, "seed": seed}
    careful = {"checkpoint_every_s": 0, "patience": 6, "neftune_alpha": 1.0}
    model = {"name": "toy", "base": str(base), "max_tokens": 16}
    return parse_spec({"model": model, "data": {"train": "toy.jsonl"}, "fit": fit | careful})


def one_round(base: Path, folder: Path, seed: int) -> Counter[str]:
    """Faults by kind: `kills`, `torn` versions, `wrong` ones, `leftovers`."""
    spec, rows = spec_of(base, seed), toy_rows()
    rng = np.random.default_rng(seed)
    points = [f"{point}:{rng.integers(1, 4)}" if point in STEPPED else point for point in POINTS]
    request, out = folder / "request.json", folder / "version"
    snapshot, digest = write_snapshot(rows[:40], folder)
    write_holdout([HoldoutRow(text=row.text, label=row.label) for row in rows[40:]], folder / "h.parquet")
    write_request(
        request,
        spec,
        train=snapshot,
        holdout=folder / "h.parquet",
        sha256=digest,
        parent=None,
        cache=folder / "cache",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "tests.trainer.dying_trainer", str(request), str(out), *points],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    attempts = [json.loads(line) for line in ran.stdout.splitlines()]
    whole = fit_toy(spec, rows[:40], folder / "undisturbed")
    return _counted(attempts, out, whole.files[TRAINED])


def _counted(attempts: list[dict[str, Any]], out: Path, weights: bytes) -> Counter[str]:
    kills = sum(one["status"] == -9 for one in attempts)
    early = sum(one["sealed"] for one in attempts if one["point"] not in {"sealed", ""})
    found = Counter(kills=kills, torn=early, leftovers=int(beside(out).exists()))
    try:
        same = (open_version(out).path / TRAINED).read_bytes() == weights
    except VersionRefusedError:
        found["torn"] += 1
    else:
        found["wrong"] += not same
    return found


def main(arguments: list[str]) -> None:
    """Rounds until there were enough kills, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args(arguments)
    began, seed, found = time.monotonic(), 0, Counter[str](kills=0, torn=0, wrong=0, leftovers=0)
    with tempfile.TemporaryDirectory() as folder:
        base = write_base(Path(folder))
        while found["kills"] < given.faults and time.monotonic() - began < given.seconds:
            work = Path(folder) / str(seed)
            work.mkdir()
            found.update(one_round(base, work, seed))
            seed += 1
    machine = {"machine": platform.platform(), "cores": os.cpu_count()}
    print(
        json.dumps(
            {"figure": "kill -9 of a training", "points": len(POINTS), "rounds": seed, **found, **machine}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
