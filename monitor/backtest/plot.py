"""What a replay or a sweep looks like: its chart, in a PNG or in one page of HTML.

Nothing is loaded from anywhere. What a history or a policy is called reaches the page escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from monitor.backtest.picture import Chart, Cost, Line, Mark, render
from monitor.errors import MonitorError

SUFFIXES = (".html", ".png")
_STYLE = """body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}"""
_COLUMNS = ("mean_accuracy", "pages", "retrains", "labels_used", "cpu_seconds")


class PlotError(MonitorError):
    """A picture cannot be drawn: why, and what to write instead."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"--plot {file}: {problem}")


def check_file(file: Path) -> None:
    """Raise PlotError before hours of work, not after."""
    if file.suffix not in SUFFIXES:
        raise PlotError(file, f"the name must end in {' or '.join(SUFFIXES)}")
    if not file.resolve().parent.is_dir():
        raise PlotError(file, "its folder does not exist")


def draw(chart: Chart, file: Path) -> None:
    """Write the chart. Raises PlotError."""
    check_file(file)
    if file.suffix == ".png":
        file.write_bytes(render(chart, "png"))
    else:
        file.write_text(page(chart), encoding="utf-8")


def chart_of(told: dict[str, Any], title: str) -> Chart:
    """The chart of a replay, or of a sweep: a line for each policy, marks and evidence for a single one."""
    runs = told.get("runs") or [told]
    windows = runs[0]["windows"]
    lines = [_line(run.get("policy", "loop"), run, "") for run in runs]
    lines[:0] = [_line(name, runs[0], f"{name}_") for name in ("frozen", "oracle")]
    ends = [window["end"] for window in windows]
    alone = len(runs) == 1
    rows = [[run.get("policy", "loop"), *(str(run["summary"][name]) for name in _COLUMNS)] for run in runs]
    return Chart(
        title=title,
        ends=ends,
        lines=lines,
        marks=_marks(runs[0], ends) if alone else (),
        evidence=[_powers(window["evidence"].get("log_e")) for window in windows] if alone else (),
        costs=() if alone else [_cost(run) for run in runs],
        table=[["policy", *_COLUMNS], *rows],
    )


def page(chart: Chart) -> str:
    """The chart as one page of HTML."""
    head, *rows = [[escape(cell) for cell in row] for row in chart.table]
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
    drawn = render(chart, "svg").decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(chart.title)}</title>'
        f"<style>{_STYLE}</style>{drawn[drawn.index('<svg') :]}"
        f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{body}</table></html>\n"
    )


def _line(name: str, run: dict[str, Any], prefix: str) -> Line:
    values = [window[f"{prefix}accuracy"] for window in run["windows"]]
    return Line(name=name, values=values, mean=run["summary"][f"{prefix}mean_accuracy"])


def _cost(run: dict[str, Any]) -> Cost:
    summary = run["summary"]
    return Cost(
        name=run["policy"],
        accuracy=summary["mean_accuracy"],
        retrains=summary["retrains"],
        labels=summary["labels_used"],
        best=run["pareto"],
    )


def _marks(run: dict[str, Any], ends: Sequence[float]) -> list[Mark]:
    number = {end: window for window, end in enumerate(ends)}
    causes: dict[float, list[str]] = {}
    for one in run["pages"]:
        causes.setdefault(one["at"], []).append(one["cause"])
    pages = [Mark(kind="page", window=number[at], text=", ".join(names)) for at, names in causes.items()]
    versions = [window["version"] for window in run["windows"]]
    return pages + [
        Mark(
            kind=one["verdict"],
            window=number[one["at"]],
            text=versions[min(number[one["at"]] + 1, len(versions) - 1)]
            if one["verdict"] == "promoted"
            else "",
        )
        for one in run["retrains"]
    ]


def _powers(log_e: float | None) -> float | None:
    return None if log_e is None else log_e / math.log(10)
