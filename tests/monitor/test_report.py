from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.report import ReportRequest, ReportResult, run_report
from monitor.severity import rank_severity
from monitor.windows import Window


def window(rows: int, seed: int, *, lower: float = 0.0, labelled: bool = True) -> Window:
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 4, rows)
    truth = tuple("abcd"[i] if rng.random() < 0.9 else "a" for i in index)
    return Window(
        model="router",
        version="v1",
        labels=tuple("abcd"),
        label_index=index,
        score=rng.uniform(0.5, 1, rows),
        scores=rng.dirichlet(np.ones(4), rows),
        similarity=rng.normal(0.6 - 0.1 * lower, 0.1, rows),
        tokens=rng.integers(5, 60, rows).astype(float),
        characters=rng.integers(20, 300, rows).astype(float),
        text=(None,) * rows,
        truth=truth if labelled else (None,) * rows,
        ids=tuple(map(str, range(rows))),
        first_seq=1,
        last_seq=rows,
        start_at=0.0,
        end_at=1.0,
    )


def request(folder: Path, current: Window, **changes: object) -> ReportRequest:
    asked = ReportRequest(
        reference=window(400, seed=0),
        current=current,
        html=folder / "reports" / "7.html",
        json=folder / "reports" / "7.json",
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Window, ReportResult]:
    current = window(300, seed=1, lower=0.5)
    limits = {"accuracy": 0.99, "drift_tokens": 1e-6}
    return current, run_report(request(tmp_path_factory.mktemp("report"), current, thresholds=limits))


def test_what_decides_is_what_the_report_shows(drifted: tuple[Window, ReportResult]) -> None:
    current, result = drifted
    assert result.failed == ()
    shown = next(metric for metric in result.metrics if metric["name"] == "drift_similarity")
    ours = rank_severity(window(400, seed=0).similarity, current.similarity)
    assert shown["value"] == pytest.approx(ours.p_value, rel=1e-9)
    assert (shown["method"], shown["threshold"], shown["drifted"]) == ("trueup_lower", 0.01, True)
    assert {"name": "Value Drift for column similarity", "status": "FAIL"} in result.tests


def test_every_column_has_its_own_method_and_threshold(drifted: tuple[Window, ReportResult]) -> None:
    methods = {metric["name"]: metric["method"] for metric in drifted[1].metrics}
    assert methods == {
        "drift_similarity": "trueup_lower",
        "drift_confidence": "trueup_lower",
        "drift_label": "trueup_mix",
        "drift_characters": "ks",
        "drift_tokens": "ks",
        "accuracy": "Accuracy",
        "macro_f1": "F1Score",
    }


def test_only_configured_thresholds_count_as_exceeded(drifted: tuple[Window, ReportResult]) -> None:
    current, result = drifted
    assert result.exceeded == ("accuracy",)
    accuracy = next(metric for metric in result.metrics if metric["name"] == "accuracy")
    assert accuracy["value"] == pytest.approx(current.accuracy)


def test_files_are_whole_and_the_child_is_frugal(drifted: tuple[Window, ReportResult]) -> None:
    _, result = drifted
    assert result.html is not None
    assert result.quality_html is not None
    assert result.json is not None
    assert result.html.stat().st_size > 100_000
    assert json.loads(result.json.read_text())["drift"]["metrics"]
    assert not list(result.html.parent.glob(".*"))
    assert 50 < result.peak_rss_mb < 600
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["html"] == "7.html"


def test_a_column_without_values_is_left_out_and_the_rest_is_reported(tmp_path: Path) -> None:
    current = window(300, seed=1, labelled=False)
    current = replace(current, similarity=np.full(300, np.nan), score=np.full(300, 0.7))
    result = run_report(request(tmp_path, current))
    assert {one["name"] for one in result.failed} == {"drift_similarity", "quality"}
    assert [metric["name"] for metric in result.metrics] == [
        "drift_confidence",
        "drift_label",
        "drift_characters",
        "drift_tokens",
    ]
    assert result.html is not None
    assert result.quality_html is None


def test_one_metric_that_raises_never_loses_the_others(tmp_path: Path) -> None:
    from monitor import report

    broken = replace(report.COLUMNS[0], method="no such test")
    frames = {name: tmp_path / f"{name}.parquet" for name in ("reference", "current", "labelled")}
    from monitor.report_request import write_frame

    for seed, path in enumerate(frames.values()):
        write_frame(window(100, seed=seed), path, rows=1000, seed=0)
    orders = {name: str(path) for name, path in frames.items()}
    orders |= {"html": str(tmp_path / "x.html"), "json": str(tmp_path / "x.json")}
    code = (
        "import json, sys; from dataclasses import replace; from monitor import report; "
        f"report.COLUMNS = (replace(report.COLUMNS[0], method={broken.method!r}), *report.COLUMNS[1:]); "
        "print(json.dumps(report.make_report({**json.loads(sys.argv[1]), 'thresholds': {}})))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(orders)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DO_NOT_TRACK": "1", "PYTHONPATH": str(Path(report.__file__).parents[1])},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert [one["name"] for one in found["failed"]] == ["drift_similarity"]
    assert len(found["metrics"]) == 6


def test_a_timeout_is_a_result_with_its_reason(tmp_path: Path) -> None:
    result = run_report(request(tmp_path, window(50, seed=1)), timeout_s=0.05)
    assert result.metrics == ()
    assert "longer than 0.05 s" in result.failed[0]["reason"]
    assert result.html is None


def test_a_crash_is_a_result_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where a folder should be")
    result = run_report(request(tmp_path, window(50, seed=1)))
    assert "ended with status 1" in result.failed[0]["reason"]
    assert result.exceeded == ()


def test_importing_the_monitor_statistics_loads_no_heavy_library() -> None:
    code = (
        "import sys, monitor.report, monitor.policy, monitor.verdict, monitor.evidence as e; e.detectors(); "
        "print([n for n in ('evidently', 'pandas', 'sklearn', 'torch', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
