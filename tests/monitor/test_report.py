from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, insert, select

from exporter.redact import kept_text
from monitor import report, tables
from monitor.config import ConfigError, load_settings
from monitor.report import ReportRequest, ReportResult, run_report
from monitor.report_metrics import METRICS, judged
from monitor.report_request import write_frame
from monitor.report_rows import write_metrics
from monitor.retention import RUNS, prune
from monitor.severity import rank_severity
from monitor.tables import checks
from monitor.windows import Window


def window(rows: int, seed: int, *, lower: float = 0.0, labelled: bool = True, texts: bool = True) -> Window:
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
        text=tuple(f"please help with {word}. thanks" * int(rng.integers(1, 4)) for word in "abcd" * rows)[
            :rows
        ]
        if texts
        else (None,) * rows,
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
        "drift_text_length": "ks",
        "drift_word_count": "ks",
        "drift_sentence_count": "ks",
        "drift_non_letters": "ks",
        "mean_similarity": "MeanValue",
        "mean_confidence": "MeanValue",
        "accuracy": "Accuracy",
        "macro_f1": "F1Score",
        "macro_precision": "Precision",
        "macro_recall": "Recall",
    }
    assert list(methods) == list(METRICS)


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
    current = window(300, seed=1, labelled=False, texts=False)
    current = replace(current, similarity=np.full(300, np.nan), score=np.full(300, 0.7))
    result = run_report(request(tmp_path, current))
    missing = {"similarity", "text_length", "word_count", "sentence_count", "non_letters"}
    quality = {"accuracy", "macro_f1", "macro_precision", "macro_recall"}
    failed = {one["name"] for one in result.failed}
    assert failed == {f"drift_{name}" for name in missing} | {"mean_similarity"} | quality
    assert {metric["name"] for metric in result.metrics} == {*METRICS} - failed
    assert result.html is not None
    assert result.quality_html is None


def test_one_metric_that_raises_never_loses_the_others(tmp_path: Path) -> None:
    frames = {name: tmp_path / f"{name}.parquet" for name in ("reference", "current", "labelled")}
    for seed, path in enumerate(frames.values()):
        write_frame(window(100, seed=seed), path, rows=1000, seed=0)
    orders = {name: str(path) for name, path in frames.items()} | dict.fromkeys(("at", "workspace"))
    orders |= {"html": str(tmp_path / "x.html"), "json": str(tmp_path / "x.json"), "version": "v1"}
    code = (
        "import json, sys; from dataclasses import replace; from monitor import report; "
        "columns = [replace(report.COLUMNS[0], method='no such test'), *report.COLUMNS[1:-1], "
        "replace(report.COLUMNS[-1], descriptor='NoSuchDescriptor')]; "
        "request = {**json.loads(sys.argv[1]), 'thresholds': {}}; "
        "print(json.dumps(report.make_report(request, columns)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, json.dumps(orders)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DO_NOT_TRACK": "1", "PYTHONPATH": str(Path(report.__file__).parents[1])},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    failed = {one["name"]: one["reason"] for one in found["failed"]}
    assert set(failed) == {"drift_similarity", "drift_non_letters"}
    assert "NoSuchDescriptor" in failed["drift_non_letters"]
    assert len(found["metrics"]) == len(METRICS) - 2


def test_descriptors_see_that_texts_became_longer(tmp_path: Path) -> None:
    current = window(300, seed=1)
    longer = replace(current, text=tuple(f"{text}. and one more sentence." for text in current.text))
    values = {one["name"]: one["value"] for one in run_report(request(tmp_path, longer)).metrics}
    assert values["drift_word_count"] < 1e-6
    assert values["drift_sentence_count"] < 1e-6
    assert values["drift_tokens"] > 1e-3


def test_hashed_texts_are_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "frame.parquet"
    hashed = kept_text("lost card", "hash")
    write_frame(replace(window(20, seed=0), text=(hashed, "kept") * 10), path, rows=100, seed=0)
    assert pd.read_parquet(path)["text"].isna().tolist() == [True, False] * 10


def test_reports_become_runs_of_a_workspace_within_its_budget(tmp_path: Path) -> None:
    place = {"workspace": tmp_path / "workspace"}
    assert run_report(request(tmp_path, window(100, seed=1), **place)).failed == ()
    run_report(request(tmp_path, window(100, seed=2), **place))
    projects = list((tmp_path / "workspace").glob("*/metadata.json"))
    runs = list((tmp_path / "workspace").glob(RUNS))
    assert [json.loads(one.read_text())["name"] for one in projects] == ["router"]
    assert len(runs) == 4
    budget_mb = (sum(run.stat().st_size for run in runs) - 1) / 2**20
    assert prune(tmp_path / "workspace", budget_mb, RUNS) == 1
    assert len(list((tmp_path / "workspace").glob(RUNS))) == 3
    assert projects[0].exists()


def test_a_workspace_that_cannot_be_written_costs_only_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = run_report(request(tmp_path, window(100, seed=1), workspace=tmp_path / "file" / "workspace"))
    assert [one["name"] for one in result.failed] == ["workspace"]
    assert len(result.metrics) == len(METRICS)


def test_the_folder_of_reports_keeps_its_budget_after_the_newest_report(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.html").write_bytes(bytes(6 * 2**20))
        os.utime(folder / f"{number}.html", (number, number))
    result = run_report(request(tmp_path, window(100, seed=1), budget_mb=16.0))
    assert result.html is not None
    assert sorted(path.name for path in folder.iterdir()) == ["2.html", "7.html", "7.json", "7.quality.html"]


def test_the_metrics_of_a_report_become_rows_also_those_that_failed(db: Engine) -> None:
    found = judged(METRICS["accuracy"], 0.7, {"accuracy": 0.8})
    lost = judged(METRICS["drift_label"], float("nan"), {})
    result = ReportResult(metrics=(found, lost), failed=({"name": "drift_tokens", "reason": "no values"},))
    check = {"model": "m", "version": "v1", "state": "ok", "last_seq": 1, "last_label_seq": 0, "rows": 1}
    with db.begin() as connection:
        values = check | {"id": 5, "labelled": 0, "paged": False, "at": 0.0}
        connection.execute(insert(checks).values(**values))
        write_metrics(connection, 5, result)
        rows = {row.metric: row for row in connection.execute(select(tables.report_metrics))}
    assert (rows["accuracy"].value, rows["accuracy"].threshold, rows["accuracy"].drifted) == (0.7, 0.8, True)
    assert (rows["drift_label"].value, rows["drift_label"].drifted) == (None, False)
    assert rows["drift_label"].failed is not None
    assert (rows["drift_tokens"].failed, rows["drift_tokens"].value) == ("no values", None)


def test_a_threshold_on_an_unknown_metric_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "trueup.toml"
    path.write_text("[models.a.thresholds]\nmacro_recall = 0.8\ndrift_word_count = 1e-4\n")
    assert load_settings(path).model("a").thresholds == {"macro_recall": 0.8, "drift_word_count": 1e-4}
    path.write_text("[models.a.thresholds]\ndrift_words = 0.1\n")
    with pytest.raises(ConfigError, match=r"drift_words.*drift_word_count"):
        load_settings(path)


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
