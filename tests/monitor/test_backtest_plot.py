from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monitor.backtest.plot import PlotError, chart_of, check_file, draw, page, svg

HOSTILE = '<script>alert(1)</script>&"'


def told(policy: str | None = None) -> dict[str, Any]:
    windows = [
        {"end": 3600.0 * (number + 1), "accuracy": 0.9 - number / 10, "frozen_accuracy": 0.5,
         "oracle_accuracy": 0.95, "version": f"v{number + 1}"}
        for number in range(3)
    ]  # fmt: skip
    summary = dict.fromkeys(("mean_accuracy", "pages", "retrains", "labels_used", "cpu_seconds"), 1)
    return {
        "windows": windows,
        "pages": [{"at": 3600.0, "cause": "drift"}, {"at": 3600.0, "cause": HOSTILE}],
        "retrains": [{"at": 3600.0, "trigger": "page", "verdict": "promoted"}],
        "summary": summary,
    } | ({"policy": policy} if policy else {})


def test_lines_marks_and_versions_are_drawn() -> None:
    root = ElementTree.fromstring(svg(chart_of(told(), "mine")))
    space = "{http://www.w3.org/2000/svg}"
    lines = [line.findtext(f"{space}title") for line in root.findall(f"{space}polyline")]
    assert lines == ["loop", "frozen", "oracle"]
    points = root.findall(f"{space}polyline")[0].attrib["points"].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights)  # accuracy falls: further down the page
    texts = [text.text or "" for text in root.findall(f"{space}text")]
    assert any(text.startswith("page: drift") for text in texts)
    assert "promoted: page, v2" in texts


def test_names_of_others_are_escaped() -> None:
    shown = page(chart_of({"runs": [told(HOSTILE), told("calm")]}, HOSTILE))
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") >= 3
    assert "<script>" not in page(chart_of(told(), "mine"))


def test_a_sweep_has_a_line_for_each_policy() -> None:
    chart = chart_of({"runs": [told("a"), told("b")]}, "mine")
    assert [line.name for line in chart.lines] == ["a", "frozen", "oracle", "b"]
    assert chart.marks == []


def test_a_file_that_cannot_be_drawn_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"must end in \.html or \.png"):
        check_file(tmp_path / "plot.jpeg")
    with pytest.raises(PlotError, match="folder does not exist"):
        check_file(tmp_path / "nowhere" / "plot.html")


def test_a_png_needs_matplotlib(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(PlotError, match="pip install matplotlib"):
            draw(chart_of(told(), "mine"), file)
    else:
        draw(chart_of(told(), "mine"), file)
        assert file.read_bytes().startswith(b"\x89PNG")
