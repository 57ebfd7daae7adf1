from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monitor.backtest.picture import render
from monitor.backtest.plot import PlotError, chart_of, check_file, draw, page

HOSTILE = '<script>alert(1)</script>&"$x$'


def told(policy: str | None = None) -> dict[str, Any]:
    windows = [
        {"end": 3600.0 * (number + 1), "accuracy": 0.9 - number / 10, "frozen_accuracy": 0.5,
         "oracle_accuracy": 0.95, "version": f"v{number + 1}",
         "evidence": {"log_e": None if number == 0 else 2.0 * number}}
        for number in range(3)
    ]  # fmt: skip
    summary: dict[str, float] = dict.fromkeys(("pages", "retrains", "labels_used", "cpu_seconds"), 1)
    summary |= {"mean_accuracy": 0.8, "frozen_mean_accuracy": 0.5, "oracle_mean_accuracy": 0.95}
    return {
        "windows": windows,
        "pages": [{"at": 3600.0, "cause": "drift"}, {"at": 3600.0, "cause": HOSTILE}],
        "retrains": [{"at": 3600.0, "trigger": "page", "verdict": "promoted"}],
        "summary": summary,
    } | ({"policy": policy, "pareto": True} if policy else {})


def test_lines_and_what_happened_are_drawn() -> None:
    chart = chart_of(told(), "mine")
    assert [line.name for line in chart.lines] == ["frozen", "oracle", "loop"]
    assert [(mark.kind, mark.window, mark.text) for mark in chart.marks] == [
        ("page", 0, f"drift, {HOSTILE}"),
        ("promoted", 0, "v2"),
    ]
    root = ElementTree.fromstring(render(chart, "svg"))
    texts = {"".join(one.itertext()).strip() for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"mine", "page", "retrain, promoted", "v2", "loop: 0.800"} <= texts
    assert f"drift, {HOSTILE}" in texts


def test_names_of_others_are_escaped() -> None:
    shown = page(chart_of({"runs": [told(HOSTILE), told("calm")]}, HOSTILE))
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") >= 3
    assert "<script>" not in page(chart_of(told(), "mine"))


def test_a_sweep_has_a_line_and_a_cost_for_each_policy() -> None:
    chart = chart_of({"runs": [told("a"), told("b")]}, "mine")
    assert [line.name for line in chart.lines] == ["frozen", "oracle", "a", "b"]
    assert [cost.name for cost in chart.costs] == ["a", "b"]
    assert not chart.marks


def test_the_same_chart_gives_the_same_picture() -> None:
    assert render(chart_of(told(), "mine"), "svg") == render(chart_of(told(), "mine"), "svg")


def test_a_file_that_cannot_be_drawn_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"must end in \.html or \.png"):
        check_file(tmp_path / "plot.jpeg")
    with pytest.raises(PlotError, match="folder does not exist"):
        check_file(tmp_path / "nowhere" / "plot.html")


def test_a_png_is_large_enough_to_read(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    draw(chart_of({"runs": [told("a"), told("b")]}, HOSTILE), file)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) >= (1000, 600)
