"""`train --check-data` and `--explain`: what a spec says, and what is wrong with its data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from monitor.commands import Context, Outcome
from monitor.commands.models import stages
from monitor.data_summary import write_summary
from monitor.recorded import recent_texts, recorded_rows
from trainer.findings import EXAMPLES, Finding, told
from trainer.gate import look
from trainer.origins import DEFAULT, explain
from trainer.rows import HoldoutRow, Row
from trainer.spec import load_spec
from trainer.split import prepare

_SEVERE = {"refuse": "bold red", "drop": "yellow", "warn": "cyan"}


def explain_spec(_: Context, *, spec: Path) -> Outcome:
    """Every value of the spec and where it came from; passwords are hidden."""
    settings = explain(spec, os.environ)
    table = Table(box=None)
    table.add_column("key", no_wrap=True, min_width=max(len(one.key) for one in settings))
    for name in ("value", "from"):
        table.add_column(name, overflow="fold")
    for one in settings:
        value = "–" if one.value is None else str(one.value)
        style = "dim" if one.origin == DEFAULT else ""
        table.add_row(Text(one.key), Text(value), Text(one.origin), style=style)
    return Outcome(data={"settings": [asdict(one) for one in settings]}, view=(table,))


def check_data(context: Context, *, spec: Path, report: Path | None, quiet: bool) -> Outcome:
    """Look at the rows and the hold-out that a training would have; status 1 with a finding."""
    loaded = load_spec(spec, os.environ)
    recorded = None if loaded.data.recorded is None else recorded_rows(context.db, loaded.data)
    rows, holdout = prepare(loaded, spec, recorded=recorded)
    traffic = recent_texts(context.db, loaded.model.name) if context.has_database else []
    with stages(quiet) as show:
        findings = look(
            loaded,
            rows,
            holdout,
            traffic=traffic,
            cache=context.settings.trainer.cache,
            tick=lambda done, of: show({"stage": "embed", "done": done, "total": of}),
        )
    pages = _summarise(report, loaded.model.name, rows, holdout, traffic) if report is not None else []
    data = {
        "reports": list(map(str, pages)),
        "rows": len(rows), "holdout": len(holdout), "traffic": len(traffic), "findings": told(findings)
    }  # fmt: skip
    head = (
        f"{len(rows)} rows to learn from, {len(holdout)} held out, {len(traffic)} of recent traffic; "
        f"{len(findings)} kinds of findings"
    )
    written = [f"wrote {page}" for page in pages]
    return Outcome(data=data, view=(head, *map(_view, findings), *written), status=int(bool(findings)))


def _summarise(
    page: Path, model: str, rows: Sequence[Row], holdout: Sequence[HoldoutRow], traffic: Sequence[str]
) -> list[Path]:
    """One page beside the hold-out, and one beside recent traffic where there is any."""
    ours = [(row.text, row.label) for row in rows]
    held = [(row.text, row.label) for row in holdout]
    pages = [write_summary(page, ours, held, name=f"{model}: training rows and hold-out")]
    if traffic:
        asked = [(text, None) for text in traffic]
        beside = page.with_suffix(f".traffic{page.suffix}")
        pages.append(write_summary(beside, ours, asked, name=f"{model}: training rows and recent traffic"))
    return pages


def _view(finding: Finding) -> Group:
    """The finding over its examples; texts are data, never markup."""
    title = Text(f"\n{finding.action:<7}", style=_SEVERE.get(finding.action, ""))
    title.append(f"{finding.kind}: ", style="bold").append(finding.message, style="not bold")
    if not finding.examples:
        return Group(title)
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
    for name, ratio in (("row", None), ("label", 3), ("text", 5), ("why", 4)):
        table.add_column(name, no_wrap=name == "row", ratio=ratio, overflow="fold")
    for one in finding.examples:
        table.add_row(str(one.row), Text(one.label), Text(one.text), Text(one.note))
    more = len(finding.rows) - EXAMPLES
    return Group(title, table, *([Text(f"and {more} rows more", style="dim")] if more > 0 else []))
