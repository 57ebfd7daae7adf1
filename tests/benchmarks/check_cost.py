"""What a check costs: one window of a million rows, the next one, and a thousand models by one process.

python -m tests.benchmarks.check_cost [--quick] [models] [slices] [window]
JSON lines; SQLite in a temporary folder
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, insert

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.descriptors import describe
from exporter.loader import store
from exporter.prediction import Prediction
from exporter.registration import register
from exporter.tables import deployments, sketches, versions
from monitor.check import run_check
from monitor.migrate import upgrade
from monitor.settings import ModelSettings, MonitorSettings
from tests.exporter.versions import build_version, sentence

HIDDEN = 16
BATCH = 5000
CHANNELS = 10
MONITOR = MonitorSettings(evidently=False)


def say(**figures: object) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def answers(rng: np.random.Generator, model: str, rows: int, *, first: int, at: float) -> list[Prediction]:
    """Rows as the exporter records them, from a thousand different texts."""
    texts = [sentence(rng) for _ in range(200)]
    described = [describe(text) for text in texts]
    vectors = rng.normal(size=(200, HIDDEN)).astype("<f2")
    score, similarity = rng.beta(8, 2, rows), rng.beta(6, 3, rows)
    chosen, label = rng.integers(200, size=rows), rng.choice(["yes", "no", "maybe"], rows)
    return [
        Prediction(
            id=f"{model}-{first + number}",
            model=model,
            version="v1",
            role="champion",
            at=at + number / 100,
            text=None,
            label=str(label[number]),
            score=float(score[number]),
            scores=(float(score[number]), 0.0, 0.0),
            embedding=vectors[text].tobytes(),
            similarity=float(similarity[number]),
            tokens=9,
            characters=len(texts[text]),
            truncated=False,
            queue_ms=0.1,
            run_ms=2.0,
            metadata={"channel": f"c{(first + number) % CHANNELS}"},
            descriptors=described[text].numbers,
            words=described[text].words,
        )
        for number, text in enumerate(chosen.tolist())
    ]


def fill(db: Engine, model: str, rows: int, *, first: int = 0) -> float:
    """Store rows as the loader does; returns CPU seconds."""
    rng, spent = np.random.default_rng(first), 0.0
    for start in range(first, first + rows, BATCH):
        made = answers(rng, model, min(BATCH, first + rows - start), first=start, at=1.7e9 + start / 100)
        before = time.process_time()
        with db.begin() as connection:
            store(connection, made)
        spent += time.process_time() - before
    return spent


def checked(db: Engine, home: Path, model: str, settings: ModelSettings) -> tuple[float, int]:
    """CPU seconds of one check and how many windows it judged."""
    before = time.process_time()
    result = run_check(db, home, model, settings, MONITOR, now=1.8e9)
    return time.process_time() - before, len(result.checks)


def deployed(db: Engine, home: Path) -> None:
    built = build_version(home / "built", holdout_rows=2000)
    register(db, home, built, threads=1, now=1e9)
    registry.promote(db, "router", "v1", expected=None, reason="first", actor="benchmark")


def one_window(db: Engine, home: Path, rows: int) -> None:
    settings = ModelSettings(window=rows)
    warm = ModelSettings(window=1000)
    fill(db, "router", 1000)
    checked(db, home, "router", warm)  # what the first check of a process imports
    imports = peak_mb()
    stored = fill(db, "router", rows, first=1000)
    before, cpu = resident_mb(), 0.0
    cpu, windows = checked(db, home, "router", settings)
    say(
        figure="window",
        rows=rows,
        windows=windows,
        check_cpu_s=round(cpu, 3),
        peak_above_imports_mb=round(peak_mb() - max(before, imports), 1),
        store_cpu_us_a_row=round(stored / rows * 1e6, 1),
    )
    stored = fill(db, "router", 1000, first=1000 + rows)
    cpu, windows = checked(db, home, "router", warm)
    say(figure="next window of 1,000 rows", windows=windows, check_cpu_s=round(cpu, 4))
    cpu, windows = checked(db, home, "router", warm)
    say(figure="nothing new", windows=windows, check_cpu_s=round(cpu, 4))


def ten_slices(db: Engine, home: Path, windows: int) -> None:
    """Checks of 1,000 rows of ten slices, each from its reference on, beside the same without slices."""
    for name, keys in zip(copies(db, 2, prefix="s"), ((), ("channel",)), strict=True):
        settings, stored, spent = ModelSettings(window=1000, slices=keys), [], []
        checked(db, home, name, settings)
        for number in range(windows + 5):
            stored.append(fill(db, name, 1000, first=1000 * number))
            spent.append(checked(db, home, name, settings)[0])
        say(
            figure="next window of 1,000 rows",
            slices=len(keys) * CHANNELS,
            windows=windows,
            check_cpu_ms=round(1000 * float(np.median(spent[5:])), 2),
            store_cpu_us_a_row=round(1000 * float(np.median(stored[5:])), 1),
        )


def many_models(db: Engine, home: Path, models: int) -> None:
    names = list(copies(db, models))
    for name in names:
        fill(db, name, 500)
    before, began = time.process_time(), time.perf_counter()
    windows = sum(checked(db, home, name, ModelSettings())[1] for name in names)
    say(
        figure="models",
        models=models,
        windows=windows,
        cpu_s=round(time.process_time() - before, 1),
        wall_s=round(time.perf_counter() - began, 1),
    )


def copies(db: Engine, models: int, *, prefix: str = "m") -> Iterator[str]:
    """The registered version under other names: only what checks read."""
    with db.begin() as connection:
        for table in (versions, sketches, deployments):
            own = table.select().where(table.c.model == "router")
            rows = [dict(row) for row in connection.execute(own).mappings()]
            made = [row | {"model": f"{prefix}{number}"} for number in range(models) for row in rows]
            for start in range(0, len(made), 2000):
                connection.execute(insert(table), made[start : start + 2000])
    return (f"{prefix}{number}" for number in range(models))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("figures", nargs="*", help="models, slices, window; all where none is named")
    given = parser.parse_args()
    share = 10 if given.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        db = open_database(sqlite_url(home))
        upgrade(db)
        deployed(db, home)
        if "models" in (given.figures or ["models"]):
            many_models(db, home, 1000 // share)
        if "slices" in (given.figures or ["slices"]):
            ten_slices(db, home, 100 // share)
        if "window" in (given.figures or ["window"]):
            one_window(db, home, 1_000_000 // share)
        db.dispose()


if __name__ == "__main__":
    main()
