"""The figures of a version's report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from trainer.card import cost_rows, figure_rows, interval, lost_rows
from trainer.decoder import TASK as GENERATION
from trainer.generation.card import figure_rows as generation_rows

WORST = 10  # classes that are shown; all are in report.json


def figures(report: dict[str, Any]) -> Iterator[Table]:
    """Tables of all that a report holds; what it has no rows for is left out."""
    if report.get("task") == GENERATION:
        names = (f"{report['holdout']['rows']} rows", "value", "base model", "with typos")
        yield _table("Hold-out", names, generation_rows(report))
        return
    yield _table("Hold-out", (f"{report['holdout']['rows']} rows", "95 % intervals"), figure_rows(report))
    yield from _some("Slices", ("slice", "rows", "accuracy"), _slices(report["slices"]))
    lost = ("rows", "before", "now", "points lost")
    yield from _some("Robustness", ("damage", *lost), lost_rows(report["robustness"]))
    yield from _some("Forgetting, beside the parent", ("rows of", *lost), lost_rows(report["forgetting"]))
    yield from _some("Lowest classes", ("class", "rows", "recall"), _lowest(report["classes"]))
    yield from _some("Exported graph", ("", ""), cost_rows(report["serving"]))


def _slices(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(name, str(one["rows"]), interval(one)) for name, one in found.items()]


def _lowest(classes: dict[str, Any]) -> list[tuple[str, ...]]:
    """Classes of the lowest recall, of those that have rows enough."""
    known = {name: one["recall"] for name, one in classes.items() if one["recall"]["value"] is not None}
    lowest = sorted(known, key=lambda name: (known[name]["value"], name))[:WORST]
    return [(name, str(known[name]["rows"]), interval(known[name])) for name in lowest]


def _some(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Table]:
    if rows:
        yield _table(title, names, rows)


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*names, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
