"""Accuracy and evidence over time as a PNG: large enough to read on a phone, light, a few kilobytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Any

INK, SOFT, LINE, GOOD, BAD = "#1b1f24", "#5b6570", "#d8dee4", "#0b5cad", "#b42318"
_drawing = Lock()  # matplotlib is not for threads
_COLOURS = 48  # a quarter of the bytes, and nobody sees it
_FEWEST = 2  # points that make a picture


def draw(series: Sequence[Mapping[str, Any]], *, title: str) -> bytes | None:
    """PNG of 720 x 672 pixels; None where fewer than two checks have something to show.

    `series`: checks in order of time: "at" in seconds; "accuracy", "lower", "upper" in [0, 1] or None;
    "share" of the page line or None; "paged".
    """
    shown = [one for one in series if one["accuracy"] is not None or one["share"] is not None]
    if len(shown) < _FEWEST:
        return None
    # No pyplot: it keeps figures for ever, and is not for threads.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    with _drawing:
        figure = Figure(figsize=(6.0, 5.6), dpi=120, facecolor="white", layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        figure.suptitle(title, x=0.02, ha="left", color=INK, fontsize=17, fontweight="bold", parse_math=False)
        _accuracy(above, shown)
        _evidence(below, shown)
        _times(below, shown)
        canvas.draw()
        image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    written = io.BytesIO()
    image.convert("RGB").quantize(_COLOURS).save(written, "PNG", optimize=True)
    return written.getvalue()


def _accuracy(axes: Any, shown: Sequence[Mapping[str, Any]]) -> None:
    known = [(number, one) for number, one in enumerate(shown) if one["accuracy"] is not None]
    newest = f" {known[-1][1]['accuracy']:.3f}" if known else ""
    _frame(axes, f"Accuracy{newest}, with its 95 % interval")
    if not known:
        axes.text(0.5, 0.5, "no labels yet", transform=axes.transAxes, ha="center", color=SOFT, fontsize=18)
        axes.set_yticks([])
        return
    sure = [(number, one) for number, one in known if one["lower"] is not None]
    axes.vlines(
        [number for number, _ in sure],
        [one["lower"] for _, one in sure],
        [one["upper"] for _, one in sure],
        color=GOOD,
        alpha=0.35,
        linewidth=5,
    )
    axes.plot(
        [number for number, _ in known],
        [one["accuracy"] for _, one in known],
        "o-",
        color=GOOD,
        linewidth=2.5,
    )
    lowest = min(one["accuracy"] if one["lower"] is None else one["lower"] for _, one in known)
    axes.set_ylim(max(0.0, int(lowest * 10) / 10), 1.005)
    axes.yaxis.set_major_formatter("{x:.2f}")


def _evidence(axes: Any, shown: Sequence[Mapping[str, Any]]) -> None:
    shares = [max(0.0, one["share"] or 0.0) for one in shown]
    colours = [BAD if one["paged"] else "#9fb3c8" for one in shown]
    _frame(axes, "Evidence of a change, 1 = page")
    axes.bar(range(len(shown)), shares, color=colours, width=0.8)
    axes.axhline(1.0, color=BAD, linestyle="--", linewidth=2)
    axes.set_ylim(0, max(1.3, min(max(shares) * 1.08, 4.0)))


def _frame(axes: Any, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=14, color=SOFT, parse_math=False)
    axes.tick_params(labelsize=14, colors=SOFT, length=0)
    axes.grid(visible=True, axis="y", color=LINE)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)


def _times(axes: Any, shown: Sequence[Mapping[str, Any]]) -> None:
    """Three moments; a label names the day only where they are not all of one day."""
    chosen = sorted({0, (len(shown) - 1) // 2, len(shown) - 1})
    times = [datetime.fromtimestamp(shown[number]["at"], UTC) for number in chosen]
    pattern = "%H:%M" if len({time.date() for time in times}) == 1 else "%d %b %H:%M"
    axes.set_xticks(chosen, [time.strftime(pattern) for time in times])
    axes.set_xlim(-0.7, len(shown) - 0.3)
    axes.set_xlabel(f"checks until {times[-1]:%Y-%m-%d %H:%M} UTC", fontsize=13, color=SOFT)
