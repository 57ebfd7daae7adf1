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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from exporter.redact import redacted
from monitor.report_metrics import COLUMNS, THRESHOLD, ReportColumn, ReportMetric, judged, report_metrics
from monitor.report_request import ReportRequest, ReportResult, peak_rss_mb, run_report
from monitor.severity import mix_severity, rank_severity
from trainer.tabular import write_bytes

__all__ = ["ReportRequest", "ReportResult", "main", "register_tests", "run_report"]

MIN_ROWS = 10  # values of a column, and labels: with fewer a number says nothing
TEXT_CHARACTERS = 2000  # of a text are described
# What a metric may raise on odd data; a report must survive each of them.
METRIC_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
Snapshot = Literal["drift", "quality"]


def main(orders: Path) -> None:
    """Work as the child: read the request, write the reports and the result."""
    request = json.loads(orders.read_text())
    result = make_summary(request) if "summary" in request else make_report(request)
    result["cpu_s"] = time.process_time()
    result["peak_rss_mb"] = peak_rss_mb()
    write_bytes(Path(request["result"]), json.dumps(result).encode())


def make_report(request: Mapping[str, Any], columns: Sequence[ReportColumn] = COLUMNS) -> dict[str, Any]:
    """Write the files that the request names; returns what was found and what had to be left out.

    Evidently reports on one pair of frames at a time, and labels come later than the window that they belong
    to: drift and quality are two snapshots in one JSON file, and quality's own page is `<name>.quality.html`.
    """
    import pandas as pd

    register_tests()
    frames = {name: pd.read_parquet(request[name]) for name in ("reference", "current", "labelled")}
    work = _Work(request, tuple(columns), frames, report_metrics(columns), {})
    for name in ("reference", "current"):
        _describe(work, frames[name])
    drifts, quality = _snapshot(work, _drifts(work), "drift"), _snapshot(work, _qualities(work), "quality")
    html = Path(request["html"])
    for page, snapshot in {html: drifts, html.with_suffix(".quality.html"): quality}.items():
        if snapshot.made is not None:
            write_bytes(page, snapshot.made.get_html_str(as_iframe=False).encode())
    found = {name: one.made and one.made.dict() for name, one in (("drift", drifts), ("quality", quality))}
    write_bytes(Path(request["json"]), json.dumps(found, default=str).encode())
    if request["workspace"]:
        _add_runs(work, (drifts, quality))
    values = (*drifts.values(), *quality.values())
    return {
        "metrics": [judged(work.metrics[name], value, request["thresholds"]) for name, value in values],
        "tests": [*drifts.tests(), *quality.tests()],
        "failed": [{"name": name, "reason": reason} for name, reason in work.failed.items()],
        "labelled": int(frames["labelled"]["truth"].notna().sum()),
        "written": drifts.made is not None,
        "quality_written": quality.made is not None,
    }


def make_summary(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the page of a `data_summary`: every column described, with its distribution."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataSummaryPreset

    definition = DataDefinition(
        text_columns=["text"],
        numerical_columns=["characters", "words"],
        categorical_columns=["label", "script"],
    )
    sides = [request[name] for name in ("current", "reference") if request[name]]
    data = [Dataset.from_pandas(pd.read_parquet(side), data_definition=definition) for side in sides]
    made = Report([DataSummaryPreset()]).run(*data, name=request["summary"])
    write_bytes(Path(request["html"]), made.get_html_str(as_iframe=False).encode())
    return {}


@dataclass(frozen=True, slots=True)
class _Work:
    request: Mapping[str, Any]
    columns: tuple[ReportColumn, ...]
    frames: Mapping[str, Any]
    metrics: Mapping[str, ReportMetric]
    failed: dict[str, str]  # name of a metric -> why it is missing

    def tests(self, name: str) -> list[Any]:
        """None but ours: Evidently would add its own of most metrics."""
        from evidently.tests import gte

        limit = self.request["thresholds"].get(name)
        return [] if limit is None else [gte(limit)]


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


def _describe(work: _Work, frame: Any) -> None:
    """Add a column per descriptor, NaN where no text is kept.

    Texts are redacted first: of the reference all words are known, and live traffic may be stored redacted.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, descriptors

    texts = frame["text"].dropna().map(lambda text: redacted(text[:TEXT_CHARACTERS]))
    bare = pd.DataFrame({"text": texts.to_numpy(dtype=object)})
    for column in work.columns:
        if column.descriptor is None:
            continue
        frame[column.name] = np.nan
        if texts.empty:
            continue
        try:
            wanted = getattr(descriptors, column.descriptor)("text", alias=column.name)
            made = Dataset.from_pandas(bare, DataDefinition(text_columns=["text"]), descriptors=[wanted])
            frame.loc[texts.index, column.name] = made.as_dataframe()[column.name].to_numpy(np.float64)
        except METRIC_ERRORS as problem:
            work.failed[f"drift_{column.name}"] = _reason(problem)


def _drifts(work: _Work) -> dict[str, Any]:
    from evidently.metrics import MeanValue, ValueDrift

    kept = {}
    for name, metric in work.metrics.items():
        if metric.column is None or name in work.failed:
            continue
        before, now = (
            int(work.frames[window][metric.column].notna().sum()) for window in ("reference", "current")
        )
        if min(before, now) < MIN_ROWS:
            work.failed[name] = f"{before} reference and {now} current values: not enough data."
        elif metric.kind == "drift":
            limit = work.request["thresholds"].get(name, THRESHOLD)
            kept[name] = ValueDrift(column=metric.column, method=metric.method, threshold=limit)
        else:
            kept[name] = MeanValue(column=metric.column, tests=work.tests(name))
    return kept


def _qualities(work: _Work) -> dict[str, Any]:
    from evidently import metrics

    wanted = {name: metric.method for name, metric in work.metrics.items() if metric.kind == "quality"}
    labelled = int(work.frames["labelled"]["truth"].notna().sum())
    if labelled < MIN_ROWS:
        work.failed.update(dict.fromkeys(wanted, f"{labelled} labels: not enough data."))
        return {}
    return {name: getattr(metrics, method)(tests=work.tests(name)) for name, method in wanted.items()}


def _snapshot(work: _Work, wanted: Mapping[str, Any], kind: Snapshot) -> _Snapshot:
    """Run all at once; when that fails, each alone, and then those that work."""
    try:
        return _run(work, wanted, kind)
    except METRIC_ERRORS:
        kept = {}
        for name, metric in wanted.items():
            try:
                _run(work, {name: metric}, kind)
            except METRIC_ERRORS as problem:
                work.failed[name] = _reason(problem)
            else:
                kept[name] = metric
        return _run(work, kept, kind)


def _run(work: _Work, wanted: Mapping[str, Any], kind: Snapshot) -> _Snapshot:
    from evidently import DataDefinition, Dataset, MulticlassClassification, Report

    if not wanted:
        return _Snapshot(())
    used = {work.metrics[name].column for name in wanted}
    truth = MulticlassClassification(target="truth", prediction_labels="label")
    definition = DataDefinition(
        numerical_columns=[one.name for one in work.columns if one.numeric and one.name in used],
        categorical_columns=["label"] if kind == "drift" else ["label", "truth"],
        classification=None if kind == "drift" else [truth],
    )
    windows = ("current", "reference") if kind == "drift" else ("labelled",)
    data = [Dataset.from_pandas(work.frames[name], data_definition=definition) for name in windows]
    at = work.request["at"]
    made = Report(list(wanted.values()), include_tests=True).run(
        *data,
        timestamp=None if at is None else datetime.fromtimestamp(at, UTC),
        name=f"{work.request['version']} {kind}",
    )
    return _Snapshot(tuple(wanted), made)


def _add_runs(work: _Work, snapshots: Sequence[_Snapshot]) -> None:
    """One project a model; a workspace that cannot be written costs nothing but the runs."""
    try:
        from evidently.ui.workspace import Workspace

        workspace = Workspace.create(work.request["workspace"])
        known = workspace.search_project(work.request["model"])
        project = known[0] if known else workspace.create_project(work.request["model"])
        for snapshot in snapshots:
            if snapshot.made is not None:
                workspace.add_run(project.id, snapshot.made, include_data=False)
    except METRIC_ERRORS as problem:
        work.failed["workspace"] = _reason(problem)


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
