"""The demo on a terminal: a table per window, accuracy over time, and what happens now."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from monitor.demo.story import Served, Story

_COLOURS = {"clean": "green", "drifted": "red", "fresh": "cyan", "old": "blue"}


def view(story: Story) -> RenderableType:
    """Everything so far, for a live display."""
    parts: list[RenderableType] = []
    if story.served:
        parts += [
            table(story),
            Panel(plot(story.served), title="share of mail with the right answer", width=64),
        ]
    if story.stage != "done":
        parts.append(Spinner("dots", Text(f" {story.stages[story.stage]} {_detail(story)}")))
    return Group(*parts)


def table(story: Story) -> Table:
    """One line per window."""
    valid = any(one.valid is not None for one in story.served)
    head = ["window", "traffic", "version", "rows", "accuracy", *["valid"] * valid]
    out = Table(*head, story.shown.replace("_", " "), "evidence / page line", "", box=None)
    for number, one in enumerate(story.served, 1):
        out.add_row(
            str(number),
            f"[{_COLOURS[one.traffic]}]{one.traffic}[/]",
            one.version,
            str(one.rows),
            f"{one.accuracy:.3f}",
            *["–" if one.valid is None else f"{one.valid / one.rows:.3f}"] * valid,
            "–" if one.effect is None else f"{one.effect:+.2f}",
            _evidence(one),
            "[bold red]PAGE[/]" if one.paged else "",
        )
    return out


def plot(served: list[Served], *, height: int = 8, low: float = 0.5, high: float = 1.0) -> Text:
    """Draw accuracy as columns of blocks, three characters a window.

    >>> print(plot([Served("clean", 10, 10, "v1"), Served("drifted", 10, 5, "v1")], height=2).plain)
    1.00 ┤██
    0.75 ┤██
         └──────
    """
    out = Text()
    for row in range(height, 0, -1):
        floor = low + (high - low) * (row - 1) / height
        out.append(f"{low + (high - low) * row / height:.2f} ┤")
        line = Text()
        for one in served:
            full = min(1.0, max(0.0, (one.accuracy - floor) / ((high - low) / height)))
            line.append((" ▁▂▃▄▅▆▇█"[math.floor(full * 8)]) * 2 + " ", style=_COLOURS[one.traffic])
        line.rstrip()
        out.append_text(line).append("\n")
    return out.append("     └" + "─" * 3 * len(served))


def closing(story: Story, summary: dict[str, Any], status_url: str, folder: str) -> RenderableType:
    """Where to look next."""
    out = Table("", "", box=None, show_header=False)
    for share in ("accuracy", "validity"):
        if share in summary:
            acts = summary[share].items()
            out.add_row(share, "  ".join(f"{act} [bold]{value}[/]" for act, value in acts))
    rows = {
        "pages before the shift": str(story.pages_before_shift),
        "windows until the page": str(story.windows_to_page),
        "requests": f"{story.requests}, failed {story.failed_requests}",
        "versions": " → ".join(story.versions),
        "time and memory": f"{summary['seconds']} s, {summary['peak_rss_mb']} MB at most in one process",
        "Evidently report": str(story.report or "–"),
        "status page": f"{status_url}  (trueup up -c {folder}/trueup.toml brings it back)",
        "next": "trueup init YOUR.jsonl --label COLUMN",
    }
    for key, value in rows.items():
        out.add_row(key, value)
    return Panel(out, title="trueup demo")


def _evidence(one: Served) -> str:
    if one.log_e is None or one.log_page_line is None:
        return "–"
    return f"10^{one.log_e / math.log(10):+.1f} / 10^{one.log_page_line / math.log(10):.1f}"


def _detail(story: Story) -> str:
    if story.stage == "retrain" and story.job:
        progress = story.job.get("progress") or {}
        return f"(job {story.job['id']}: {progress.get('stage', story.job['state'])})"
    return story.detail if story.stage == "train" else ""
