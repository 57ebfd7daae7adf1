"""Asking for the report of one check: the windows as parquet files, the child process, and what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from monitor.explain.texts import readable
from monitor.retention import RUNS, prune
from monitor.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    reference: Window
    current: Window
    html: Path
    json: Path
    labelled: Window | None = (
        None  # rows whose labels have come, for quality; None: those of `current` that have one
    )
    rows: int = 2000  # of each window at most, drawn with `seed`
    thresholds: Mapping[str, float] = field(default_factory=dict)  # name of a metric -> limit
    seed: int = 0
    workspace: Path | None = None  # an Evidently workspace, to which the report is added as runs
    budget_mb: float | None = None  # of the folder of `html`, and again of the workspace; None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """What the child found; `failed` says what is missing and why, and a lost child loses everything."""

    metrics: tuple[dict[str, Any], ...] = ()  # name, column, method, threshold, value, drifted
    tests: tuple[dict[str, Any], ...] = ()  # name, status
    failed: tuple[dict[str, str], ...] = ()  # name, reason
    labelled: int = 0
    html: Path | None = None  # None: no report was written
    quality_html: Path | None = None  # None: no labels
    json: Path | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0

    @property
    def exceeded(self) -> tuple[str, ...]:
        """Names of the metrics that are over a threshold that somebody configured."""
        return tuple(metric["name"] for metric in self.metrics if metric["configured"] and metric["drifted"])

    def to_json(self) -> dict[str, Any]:
        """Return what `checks.evidently` keeps."""
        files = {"html": self.html, "quality_html": self.quality_html, "json": self.json}
        return asdict(self) | {kind: file and file.name for kind, file in files.items()}


def run_report(request: ReportRequest, timeout_s: float = 120.0) -> ReportResult:
    """Make the report in a child process and wait; its crash or timeout is a result, not an exception."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trueup-report-") as scratch:
        folder = Path(scratch)
        result, orders = folder / "result.json", folder / "request.json"
        frames = {
            "reference": request.reference,
            "current": request.current,
            "labelled": request.labelled or request.current,
        }
        for seed, (name, window) in enumerate(frames.items(), request.seed):
            write_frame(window, folder / f"{name}.parquet", rows=request.rows, seed=seed)
        orders.write_text(
            json.dumps(
                {
                    **{name: str(folder / f"{name}.parquet") for name in frames},
                    "html": str(request.html),
                    "json": str(request.json),
                    "thresholds": dict(request.thresholds),
                    "model": request.current.model,
                    "version": request.current.version,
                    "at": request.current.end_at,
                    "workspace": str(request.workspace) if request.workspace else None,
                    "result": str(result),
                }
            )
        )
        problem = run_child(orders, timeout_s)
        _keep_budget(request)
        if problem or not result.exists():
            reason = {"name": "report", "reason": problem or "The child wrote no result."}
            return ReportResult(failed=(reason,), seconds=time.monotonic() - began)
        found: dict[str, Any] = json.loads(result.read_text())
    return ReportResult(
        metrics=tuple(found["metrics"]),
        tests=tuple(found["tests"]),
        failed=tuple(found["failed"]),
        labelled=found["labelled"],
        cpu_s=found["cpu_s"],
        peak_rss_mb=found["peak_rss_mb"],
        html=request.html if found["written"] else None,
        quality_html=request.html.with_suffix(".quality.html") if found["quality_written"] else None,
        json=request.json,
        seconds=time.monotonic() - began,
    )


def _keep_budget(request: ReportRequest) -> None:
    if request.budget_mb is not None:
        prune(request.html.parent, request.budget_mb)
        if request.workspace is not None:
            prune(request.workspace, request.budget_mb, RUNS)


def run_child(orders: Path, timeout_s: float) -> str | None:
    """Let `monitor.report` work on `orders`; returns what went wrong, or None."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "monitor.report", str(orders)],
            env={**os.environ, **threads, "DO_NOT_TRACK": "1", "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"The report took longer than {timeout_s:g} s and was stopped."
    except OSError as problem:
        return f"The report's process could not be started: {problem}"
    if child.returncode == 0:
        return None
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    return f"The report's process ended with status {child.returncode}: {last}"


def write_frame(window: Window, path: Path, *, rows: int, seed: int) -> None:
    """Write at most `rows` rows of a window as parquet: what `monitor.report` judges, and `truth`."""
    import pyarrow  # noqa: PLC0415 - only a check needs it
    import pyarrow.parquet  # noqa: PLC0415

    chosen = np.arange(window.rows)
    if window.rows > rows:
        chosen = np.sort(np.random.default_rng(seed).choice(window.rows, rows, replace=False))
    names = np.array([*window.labels, None], dtype=object)  # -1 takes the last: None
    columns = {
        "similarity": pyarrow.array(window.similarity[chosen], from_pandas=True),
        "confidence": pyarrow.array(window.score[chosen], from_pandas=True),
        "label": pyarrow.array(names[window.label_index[chosen]].tolist(), pyarrow.string()),
        "characters": pyarrow.array(window.characters[chosen], from_pandas=True),
        "tokens": pyarrow.array(window.tokens[chosen], from_pandas=True),
        "truth": pyarrow.array([window.truth[row] for row in chosen.tolist()], pyarrow.string()),
        "text": pyarrow.array([readable(window.text[row]) for row in chosen.tolist()], pyarrow.string()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def peak_rss_mb() -> float:
    """Largest resident set since this program began (Linux; elsewhere what it has now).

    getrusage would count the parent that it was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    return float(psutil.Process().memory_info().rss / 2**20)
