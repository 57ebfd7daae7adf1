"""Evidently's summary of a spec's data: the rows to learn from beside the hold-out, or recent traffic."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from exporter.redact import redacted
from monitor.errors import MonitorError
from monitor.report_request import run_child
from trainer.findings.foreign_script import script
from trainer.tabular import parquet_bytes, write_bytes

TIMEOUT_S = 300.0
CHARACTERS = 2000  # of a text
COLUMNS = {
    "text": "string", "label": "string", "characters": "int64", "words": "int64", "script": "string"
}  # fmt: skip


class SummaryError(MonitorError):
    """No summary was written."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Evidently made no summary: {why} The findings above do not depend on it.")


def write_summary(
    html: Path,
    rows: Sequence[tuple[str, str | None]],
    others: Sequence[tuple[str, str | None]],
    *,
    name: str,
) -> Path:
    """Write a page with (text, label) `rows` beside `others`, texts redacted. Raises SummaryError."""
    with tempfile.TemporaryDirectory(prefix="trueup-summary-") as scratch:
        folder = Path(scratch)
        for side, pairs in (("current", rows), ("reference", others)):
            described = [_described(text, label) for text, label in pairs]
            write_bytes(folder / f"{side}.parquet", parquet_bytes(described, COLUMNS))
        result = folder / "result.json"
        orders = {
            "summary": name,
            "current": str(folder / "current.parquet"),
            "reference": str(folder / "reference.parquet") if others else None,
            "html": str(html.resolve()),
            "result": str(result),
        }
        (folder / "request.json").write_text(json.dumps(orders), encoding="utf-8")
        problem = run_child(folder / "request.json", TIMEOUT_S)
        if problem or not result.exists():
            raise SummaryError(problem or "The child wrote no result.")
    return html


def _described(text: str, label: str | None) -> dict[str, object]:
    return {
        "text": redacted(text[:CHARACTERS]),
        "label": label,
        "characters": len(text),
        "words": len(text.split()),
        "script": script(text) or "none",
    }
