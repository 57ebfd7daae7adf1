"""A chart drawn with matplotlib: accuracy over time, what happened, and the evidence or the costs below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Literal

Kind = Literal["page", "promoted", "refused"]

_PEERS = {"frozen": ("#8c8c8c", "never retrained"), "oracle": ("#2ca02c", "every label at once")}
_COLOURS = ("#1f4e9c", "#d95f02", "#7570b3", "#e7298a", "#a6761d", "#17becf", "#66a61e", "#b2182b")
_MARKS = {  # marker, colour, and how it is called in the legend
    "page": ("v", "#c0161d", "page"),
    "promoted": ("^", "#1a7a2e", "retrain, promoted"),
    "refused": ("X", "#e08a00", "retrain, refused"),
}
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "trueup",  # the same chart gives the same bytes
    "text.parse_math": False,  # names are what users wrote
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named line; values lie in [0, 1], one for each window."""

    name: str
    values: Sequence[float]
    mean: float  # over rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at the end of window `window`, from 0."""

    kind: Kind
    window: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one policy took for its accuracy."""

    name: str
    accuracy: float
    retrains: int
    labels: int
    best: bool  # no other is as accurate for less


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn, whatever the format; `ends` are the windows' ends in seconds since 1970 UTC."""

    title: str
    ends: Sequence[float]
    lines: Sequence[Line]  # `frozen` and `oracle` are drawn as what the others are measured by
    marks: Sequence[Mark]
    evidence: Sequence[float | None]  # log10 of the e-value that pages, for each window; empty: of several
    costs: Sequence[Cost]  # of the policies of a sweep
    table: Sequence[Sequence[str]]  # the first row is the head


def render(chart: Chart, kind: Literal["png", "svg"]) -> bytes:
    """The picture's file."""
    import matplotlib  # noqa: PLC0415 - heavy, and only for pictures
    from matplotlib.figure import Figure  # noqa: PLC0415

    sink = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1.25))
        times = [datetime.fromtimestamp(end, UTC) for end in chart.ends]
        _accuracy(upper, chart, times)
        if chart.costs:
            _costs(lower, chart.costs)
        else:
            lower.sharex(upper)
            _evidence(lower, chart.evidence, times)
        figure.suptitle(chart.title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        figure.savefig(sink, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return sink.getvalue()


def _accuracy(axes: Any, chart: Chart, times: Sequence[datetime]) -> None:
    own = [line for line in chart.lines if line.name not in _PEERS]
    peers = {line.name: line for line in chart.lines if line.name in _PEERS}
    for name, line in peers.items():
        colour, meaning = _PEERS[name]
        label = f"{name}, {meaning}: {line.mean:.3f}"
        axes.plot(times, line.values, color=colour, linestyle="--", linewidth=1.3, label=label)
    for line, colour in zip(own, _repeated(len(own)), strict=True):
        axes.plot(times, line.values, color=colour, linewidth=2.2, label=f"{line.name}: {line.mean:.3f}")
    if len(own) == 1 and "frozen" in peers:
        won = [a > b for a, b in zip(own[0].values, peers["frozen"].values, strict=True)]
        axes.fill_between(
            times,
            own[0].values,
            peers["frozen"].values,
            where=won,
            alpha=0.12,
            color=_COLOURS[0],
            linewidth=0,
        )
    _mark(axes, chart.marks, times, own[0].values)
    lowest = min((value for line in chart.lines for value in line.values), default=0.0)
    axes.set_ylim(max(0.0, lowest - 0.06), 1.01)
    axes.set_ylabel("accuracy of a window")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=9, frameon=False, ncols=3, borderaxespad=0.2
    )
    _dates(axes)


def _mark(axes: Any, marks: Sequence[Mark], times: Sequence[datetime], values: Sequence[float]) -> None:
    """Pages along the top, retrains on the line that they changed."""
    for kind, (marker, colour, name) in _MARKS.items():
        these = [mark for mark in marks if mark.kind == kind]
        if not these:
            continue
        heights = [0.995 if kind == "page" else values[mark.window] for mark in these]
        at = [times[mark.window] for mark in these]
        axes.scatter(at, heights, marker=marker, s=75, color=colour, edgecolor="white", zorder=5, label=name)
        below = kind == "page"
        for number, (mark, time, height) in enumerate(zip(these, at, heights, strict=True)):
            if below:
                axes.axvline(time, color=colour, linewidth=0.8, alpha=0.5)
            down = -3 - 11 * (number % 4) if below else 9  # neighbours do not cover each other
            axes.annotate(
                mark.text, (time, height), xytext=(5, down), textcoords="offset points",
                fontsize=8, color=colour, va="top" if below else "bottom",
            )  # fmt: skip


def _evidence(axes: Any, evidence: Sequence[float | None], times: Sequence[datetime]) -> None:
    """What the pager holds against "nothing has changed"; below 0 it has lost its bets."""
    known = [(time, value) for time, value in zip(times, evidence, strict=True) if value is not None]
    axes.fill_between([time for time, _ in known], [value for _, value in known], step="mid", color="#c9b2d6")
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_ylabel("evidence,\npowers of ten")
    _dates(axes)


def _costs(axes: Any, costs: Sequence[Cost]) -> None:
    names: dict[tuple[int, float, int], list[str]] = {}  # policies that did the same share a mark
    for cost in costs:
        names.setdefault((cost.retrains, cost.accuracy, cost.labels), []).append(cost.name)
    for cost, colour in zip(costs, _repeated(len(costs)), strict=True):
        marker = "*" if cost.best else "o"
        axes.scatter(cost.retrains, cost.accuracy, s=170 if cost.best else 60, color=colour, marker=marker)
        together = names.pop((cost.retrains, cost.accuracy, cost.labels), None)
        if together is not None:
            axes.annotate(
                f"{', '.join(together)}: {cost.labels:,} labels", (cost.retrains, cost.accuracy),
                xytext=(8, 0), textcoords="offset points", fontsize=8, va="center", color=colour,
            )  # fmt: skip
    axes.margins(x=0.1, y=0.25)
    axes.set_xlim(
        right=axes.get_xlim()[1] + 0.25 * (axes.get_xlim()[1] - axes.get_xlim()[0])
    )  # for the names
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlabel="retrains (★ no other is as accurate for fewer retrains and labels)", ylabel="mean accuracy"
    )


def _dates(axes: Any) -> None:
    dates: Any = import_module("matplotlib.dates")  # it has no types
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _repeated(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]
