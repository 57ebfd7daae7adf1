"""Evidently's report of one check, made in a child process: the one module that may import evidently.

What decides is what the report shows: similarity, confidence and class mix are judged by `monitor.severity`'s
own tests, registered with Evidently by name; every column has an explicit method and threshold, because
Evidently's defaults change their meaning at 1,000 reference rows and alarm on 12-94 % of clean windows.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from monitor.report_request import ReportRequest, ReportResult, run_report
from monitor.severity import mix_severity, rank_severity

__all__ = ["ReportRequest", "ReportResult", "main", "register_tests", "run_report"]

THRESHOLD = 0.01  # p-value of one column in one window, where none is configured
MIN_ROWS = 10  # values of a column, and labels: with fewer a number says nothing
# What a metric may raise on odd data; a report must survive each of them.
METRIC_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column's drift metric; its name in `thresholds` is "drift_<column>"."""

    column: str
    numeric: bool
    method: str  # a p-value: drifted below the threshold

    @property
    def name(self) -> str:
        return f"drift_{self.column}"


COLUMNS = (
    ColumnDrift(column="similarity", numeric=True, method="trueup_lower"),
    ColumnDrift(column="confidence", numeric=True, method="trueup_lower"),
    ColumnDrift(column="label", numeric=False, method="trueup_mix"),
    ColumnDrift(column="characters", numeric=True, method="ks"),
    ColumnDrift(column="tokens", numeric=True, method="ks"),
)
QUALITY = {
    "accuracy": "Accuracy",
    "macro_f1": "F1Score",
}  # drifted below the threshold; none without a configured one


def main(orders: Path) -> None:
    """Work as the child: read the request, write the reports and the result."""

    began = time.process_time()
    request = json.loads(orders.read_text())
    result = make_report(request)
    result["cpu_s"] = time.process_time() - began
    result["peak_rss_mb"] = _peak_rss_mb()
    _replace(Path(request["result"]), lambda path: path.write_text(json.dumps(result)))


def make_report(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the files that the request names; returns what was found and what had to be left out.

    Evidently reports on one pair of frames at a time, and labels come later than the window that they belong
    to: drift and quality are two snapshots in one JSON file, and quality's own page is `<name>.quality.html`.
    """
    import pandas as pd

    register_tests()
    frames = {name: pd.read_parquet(request[name]) for name in ("reference", "current", "labelled")}
    failed: list[dict[str, str]] = []
    thresholds = request["thresholds"]
    drifts = _snapshot(
        _drifts(frames, thresholds, failed), frames["current"], frames["reference"], failed=failed
    )
    quality = _snapshot(_qualities(frames, thresholds, failed), frames["labelled"], None, failed=failed)
    html = Path(request["html"])
    pages = {html: drifts, html.with_suffix(".quality.html"): quality}
    for page, snapshot in pages.items():
        if snapshot.made is not None:
            _replace(page, lambda path, made=snapshot.made: made.save_html(str(path)))  # type: ignore[misc]
    plain = {name: one.made and one.made.dict() for name, one in (("drift", drifts), ("quality", quality))}
    _replace(Path(request["json"]), lambda path: path.write_text(json.dumps(plain, default=str)))
    return {
        "metrics": [
            _metric(name, value, thresholds) for one in (drifts, quality) for name, value in one.values()
        ],
        "tests": [test for one in (drifts, quality) for test in one.tests()],
        "failed": failed,
        "labelled": int(frames["labelled"]["truth"].notna().sum()),
        "written": drifts.made is not None,
        "quality_written": quality.made is not None,
    }


@dataclass(frozen=True, slots=True)
class _Snapshot:
    names: tuple[str, ...]
    made: Any = None  # Evidently's Snapshot, None when nothing worked

    def values(self) -> list[tuple[str, Any]]:
        found = self.made.dict()["metrics"] if self.made is not None else []
        return [(name, one["value"]) for name, one in zip(self.names, found, strict=True)]

    def tests(self) -> list[dict[str, str]]:
        found = self.made.tests_results if self.made is not None else []
        return [{"name": test.name, "status": test.status.value} for test in found]


def _drifts(
    frames: Mapping[str, Any], thresholds: Mapping[str, float], failed: list[dict[str, str]]
) -> dict[str, Any]:
    from evidently.metrics import ValueDrift

    kept = {}
    for drift in COLUMNS:
        before, now = (int(frames[name][drift.column].notna().sum()) for name in ("reference", "current"))
        if min(before, now) < MIN_ROWS:
            reason = f"{before} reference and {now} current values: not enough data."
            failed.append({"name": drift.name, "reason": reason})
        else:
            threshold = thresholds.get(drift.name, THRESHOLD)
            kept[drift.name] = ValueDrift(column=drift.column, method=drift.method, threshold=threshold)
    return kept


def _qualities(
    frames: Mapping[str, Any], thresholds: Mapping[str, float], failed: list[dict[str, str]]
) -> dict[str, Any]:
    from evidently import metrics
    from evidently.tests import gte

    labelled = int(frames["labelled"]["truth"].notna().sum())
    if labelled < MIN_ROWS:
        failed.append({"name": "quality", "reason": f"{labelled} labels: not enough data."})
        return {}
    limits = {name: [gte(thresholds[name])] if name in thresholds else [] for name in QUALITY}
    return {name: getattr(metrics, kind)(tests=limits[name]) for name, kind in QUALITY.items()}


def _snapshot(
    wanted: Mapping[str, Any], current: Any, reference: Any | None, *, failed: list[dict[str, str]]
) -> _Snapshot:
    """Run all at once; when that fails, each alone, and then those that work."""
    try:
        return _run(wanted, current, reference)
    except METRIC_ERRORS:
        kept = {}
        for name, metric in wanted.items():
            try:
                _run({name: metric}, current, reference)
            except METRIC_ERRORS as problem:
                failed.append({"name": name, "reason": _reason(problem)})
            else:
                kept[name] = metric
        return _run(kept, current, reference)


def _run(wanted: Mapping[str, Any], current: Any, reference: Any | None) -> _Snapshot:
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report

    if not wanted:
        return _Snapshot(())
    quality = any(name in QUALITY for name in wanted)
    definition = DataDefinition(
        numerical_columns=[drift.column for drift in COLUMNS if drift.numeric and drift.name in wanted],
        categorical_columns=["label", "truth"] if quality else ["label"],
        classification=[MulticlassClassification(target="truth", prediction_labels="label")]
        if quality
        else None,
    )
    before = None if reference is None else Dataset.from_pandas(reference, data_definition=definition)
    report = Report(list(wanted.values()), include_tests=True)
    return _Snapshot(
        tuple(wanted), report.run(Dataset.from_pandas(current, data_definition=definition), before)
    )


def _metric(name: str, value: Any, thresholds: Mapping[str, float]) -> dict[str, Any]:
    drift = next((column for column in COLUMNS if column.name == name), None)
    threshold = thresholds.get(name, THRESHOLD if drift else None)
    number = float(value) if np.isfinite(float(value)) else None
    return {
        "name": name,
        "column": drift.column if drift else None,
        "method": drift.method if drift else QUALITY[name],
        "threshold": threshold,
        "configured": name in thresholds,
        "value": number,
        "drifted": number is not None and threshold is not None and number < threshold,
    }


def _reason(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else 'no message'}"


def register_tests() -> None:
    """Make our two-sample tests known to Evidently: "trueup_lower" and "trueup_mix", both p-values."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def lower(reference: Any, current: Any, _kind: Any, threshold: float) -> tuple[float, bool]:
        p = rank_severity(reference.to_numpy(dtype=np.float64), current.to_numpy(dtype=np.float64)).p_value
        return p, p < threshold

    def mix(reference: Any, current: Any, _kind: Any, threshold: float) -> tuple[float, bool]:
        place = {name: float(index) for index, name in enumerate(sorted({*reference, *current}))}
        codes = [np.array([place[name] for name in sample]) for sample in (reference, current)]
        p = mix_severity(codes[0], codes[1], seed=0).p_value
        return p, p < threshold

    tests: Sequence[tuple[str, str, Any, Callable[..., tuple[float, bool]]]] = (
        ("trueup_lower", "Mann-Whitney, lower than the reference: p_value", ColumnType.Numerical, lower),
        ("trueup_mix", "chi-square by permutation: p_value", ColumnType.Categorical, mix),
    )
    for name, display, kind, test in tests:
        register_stattest(
            StatTest(name=name, display_name=display, allowed_feature_types=[kind]), default_impl=test
        )


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside and rename: a reader sees a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    write(beside)
    beside.replace(path)


def _peak_rss_mb() -> float:
    """Largest resident set since this program began (Linux; elsewhere what it has now).

    getrusage would count the parent that it was forked from.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024
    return float(psutil.Process().memory_info().rss / 2**20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
