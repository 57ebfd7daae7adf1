"""Accuracy over time as a picture: one file of HTML with its SVG inside, or PNG where matplotlib is there.

Nothing is loaded from anywhere. What a history or a policy is called reaches the page escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from monitor.errors import MonitorError

SUFFIXES = (".html", ".png")
_COLOURS = ("#1f77b4", "#9e9e9e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
_WIDTH, _HEIGHT, _LEFT, _TOP = 960, 380, 56, 24
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - 56
_STYLE = """body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}"""


class PlotError(MonitorError):
    """A picture cannot be drawn: why, and what to write instead."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"--plot {file}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named line; values lie in [0, 1], one for each window."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at the end of window `window`, from 0."""

    kind: str  # "page", "promoted", "refused"
    window: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn, whatever the format; `ends` are the windows' ends in seconds since 1970 UTC."""

    title: str
    ends: Sequence[float]
    lines: Sequence[Line]
    marks: Sequence[Mark]
    table: Sequence[Sequence[str]]  # the first row is the head


def check_file(file: Path) -> None:
    """Raise PlotError before hours of work, not after."""
    if file.suffix not in SUFFIXES:
        raise PlotError(file, f"the name must end in {' or '.join(SUFFIXES)}")
    if not file.resolve().parent.is_dir():
        raise PlotError(file, "its folder does not exist")
    if file.suffix == ".png":
        _pyplot(file)


def draw(chart: Chart, file: Path) -> None:
    """Write the chart. Raises PlotError."""
    check_file(file)
    if file.suffix == ".png":
        _png(chart, file)
    else:
        file.write_text(page(chart), encoding="utf-8")


def chart_of(told: dict[str, Any], title: str) -> Chart:
    """The chart of a replay, or of a sweep: a line for each policy, marks for a single one."""
    runs = told.get("runs") or [told]
    windows = runs[0]["windows"]
    lines = [
        Line(name=run.get("policy", "loop"), values=[window["accuracy"] for window in run["windows"]])
        for run in runs
    ]
    lines[1:1] = [
        Line(name=name, values=[window[f"{name}_accuracy"] for window in windows])
        for name in ("frozen", "oracle")
    ]
    ends = [window["end"] for window in windows]
    columns = ["mean_accuracy", "pages", "retrains", "labels_used", "cpu_seconds"]
    rows = [[run.get("policy", "loop"), *(str(run["summary"][name]) for name in columns)] for run in runs]
    marks = _marks(runs[0], ends) if len(runs) == 1 else []
    return Chart(title=title, ends=ends, lines=lines, marks=marks, table=[["policy", *columns], *rows])


def page(chart: Chart) -> str:
    """The chart as one page of HTML."""
    head, *rows = [[escape(cell) for cell in row] for row in chart.table]
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(chart.title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(chart.title)}</h1>{svg(chart)}"
        f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{body}</table></html>\n"
    )


def svg(chart: Chart) -> str:
    """The chart as an SVG element."""
    low = _floor(chart)
    parts = [_grid(low), *(_mark(number, mark, len(chart.ends)) for number, mark in enumerate(chart.marks))]
    parts += [_line(line, colour, low) for line, colour in zip(chart.lines, _colours(chart), strict=True)]
    parts += [_times(chart.ends), _legend(chart)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-size="12" font-family="system-ui,sans-serif">{"".join(parts)}</svg>'
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
            text=f"{one['trigger']}, {versions[min(number[one['at']] + 1, len(versions) - 1)]}",
        )
        for one in run["retrains"]
    ]


def _floor(chart: Chart) -> float:
    """The lowest tenth that is needed."""
    lowest = min((value for line in chart.lines for value in line.values), default=0.0)
    return max(0.0, int(lowest * 10) / 10)


def _x(window: int, windows: int) -> float:
    return round(_LEFT + _PLOT_WIDTH * (window + 0.5) / max(1, windows), 1)


def _y(value: float, low: float) -> float:
    return round(_TOP + _PLOT_HEIGHT * (1 - (value - low) / (1 - low if low < 1 else 1)), 1)


def _grid(low: float) -> str:
    ticks = [(tenth / 10, _y(tenth / 10, low)) for tenth in range(round(low * 10), 11)]
    return "".join(
        f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:.1f}</text>'
        for tick, y in ticks
    )


def _line(line: Line, colour: str, low: float) -> str:
    count = len(line.values)
    points = " ".join(f"{_x(number, count)},{_y(value, low)}" for number, value in enumerate(line.values))
    dashes = ' stroke-dasharray="5 4"' if line.name in ("frozen", "oracle") else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}>'
        f"<title>{escape(line.name)}</title></polyline>"
    )


def _mark(number: int, mark: Mark, windows: int) -> str:
    """A dotted line; its text is on one of six rows, so that neighbours do not cover each other."""
    colour = {"page": "#d62728", "promoted": "#2ca02c"}.get(mark.kind, "#ff9800")
    x, top, bottom = _x(mark.window, windows), _TOP + 12 * (number % 6), _TOP + _PLOT_HEIGHT
    told = escape(f"{mark.kind}: {mark.text}")
    return (
        f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="{colour}" stroke-dasharray="2 3"/>'
        f'<text x="{x + 3}" y="{top + 10}" fill="{colour}" font-size="10">{told}</text>'
    )


def _times(ends: Sequence[float]) -> str:
    chosen = sorted({0, len(ends) // 2, len(ends) - 1}) if ends else []
    return "".join(
        f'<text x="{_x(number, len(ends))}" y="{_TOP + _PLOT_HEIGHT + 18}" text-anchor="middle">'
        f"{datetime.fromtimestamp(ends[number], UTC):%Y-%m-%d %H:%M}</text>"
        for number in chosen
    )


def _legend(chart: Chart) -> str:
    step = _PLOT_WIDTH / max(1, len(chart.lines))
    named = zip(chart.lines, _colours(chart), strict=True)
    return "".join(
        f'<text x="{_LEFT + step * number:.0f}" y="{_HEIGHT - 10}" fill="{colour}">'
        f"{escape(line.name[:28])}</text>"
        for number, (line, colour) in enumerate(named)
    )


def _colours(chart: Chart) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(len(chart.lines))]


def _pyplot(file: Path) -> Any:
    try:
        import_module("matplotlib").use("Agg")
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        problem = (
            "PNG needs matplotlib, which is not installed. Write FILE.html, or `pip install matplotlib`."
        )
        raise PlotError(file, problem) from error


def _png(chart: Chart, file: Path) -> None:
    pyplot = _pyplot(file)
    figure, axes = pyplot.subplots(figsize=(_WIDTH / 96, _HEIGHT / 96), layout="constrained")
    for line, colour in zip(chart.lines, _colours(chart), strict=True):
        axes.plot(line.values, label=line.name, color=colour)
    for mark in chart.marks:
        axes.axvline(mark.window, color="red" if mark.kind == "page" else "green", linestyle=":")
    axes.set(title=chart.title, xlabel="window", ylabel="accuracy")
    axes.legend()
    figure.savefig(file)
    pyplot.close(figure)
