"""What an Evidently report costs its child process, and what an explanation costs the check.

python -m tests.benchmarks.report_cost [--quick]     JSON lines; files in a temporary folder
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.loader import store
from exporter.registration import register
from monitor.explain import explain
from monitor.migrate import upgrade
from monitor.report import ReportRequest, run_report
from monitor.windows import Window
from tests.benchmarks.check_cost import BATCH, answers
from tests.exporter.versions import build_version, sentence

ROWS = (500, 20_000, 1_000_000)
CLASSES = 77


def say(**figures: object) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def window(rows: int, seed: int) -> Window:
    """Rows with texts of about 300 characters, all labelled, in 77 classes."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(sentence(rng) for _ in range(8)) for _ in range(500)]
    index = rng.integers(0, CLASSES, rows)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return Window(
        model="router",
        version="v1",
        labels=names,
        label_index=index,
        score=rng.beta(8, 2, rows),
        scores=np.empty((rows, 0)),
        similarity=rng.beta(6, 3, rows),
        tokens=rng.integers(5, 60, rows).astype(float),
        characters=rng.integers(20, 300, rows).astype(float),
        text=tuple(texts[number] for number in rng.integers(0, len(texts), rows)),
        truth=tuple(names[number] for number in np.where(rng.random(rows) < 0.9, index, 0)),
        ids=tuple(map(str, range(rows))),
        first_seq=1,
        last_seq=rows,
        start_at=0.0,
        end_at=1.7e9,
    )


def reports(folder: Path, sizes: tuple[int, ...]) -> None:
    for rows in sizes:
        for workspace in (None, folder / "workspace"):
            request = ReportRequest(
                reference=window(1000, seed=0),
                current=window(rows, seed=1),
                html=folder / "reports" / f"{rows}.html",
                json=folder / "reports" / f"{rows}.json",
                workspace=workspace,
            )
            result = run_report(request)
            say(
                figure="report",
                rows=rows,
                workspace=workspace is not None,
                child_cpu_s=round(result.cpu_s, 2),
                child_peak_mb=round(result.peak_rss_mb),
                metrics=len(result.metrics),
                failed=len(result.failed),
            )


def send(db: Engine, rows: int, first: int) -> None:
    """Store rows with texts of about 300 characters and two fields of metadata."""
    rng = np.random.default_rng(first)
    texts = [" ".join(sentence(rng) for _ in range(8)) for _ in range(500)]
    for start in range(first, first + rows, BATCH):
        made = answers(rng, "router", min(BATCH, first + rows - start), first=start, at=1.7e9 + start / 100)
        full = [
            replace(row, text=texts[n % 500], metadata={"desk": str(n % 7), "site": str(n % 31)})
            for n, row in enumerate(made)
        ]
        with db.begin() as connection:
            store(connection, full)


def explanations(folder: Path, sizes: tuple[int, ...]) -> None:
    db = open_database(sqlite_url(folder))
    upgrade(db)
    register(db, folder, build_version(folder / "built", holdout_rows=2000), threads=1, now=1e9)
    registry.promote(db, "router", "v1", expected=None, reason="first", actor="benchmark")
    first = 0
    for rows in sizes:
        send(db, rows, first)
        before = time.process_time()
        found = explain(db, folder, "router", "v1", since_seq=first + 1, until_seq=first + rows)
        cpu_s = round(time.process_time() - before, 3)
        say(figure="explanation", rows=rows, sampled=found.rows, cpu_s=cpu_s)
        first += rows
    db.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no window of a million rows")
    sizes = ROWS[:2] if parser.parse_args().quick else ROWS
    with tempfile.TemporaryDirectory() as folder:
        explanations(Path(folder), sizes[:2])  # a million rows take minutes to store
        reports(Path(folder), sizes)


if __name__ == "__main__":
    main()
