"""Stored reports, each in a sandbox of its own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, select

from monitor.explain.page import SUFFIX
from monitor.tables import checks

# A report is Evidently's HTML with its own scripts and with users' text in it: it may not act as our page.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "style-src 'unsafe-inline' data:; img-src data: blob:; font-src data:; worker-src blob:"
)
PARTS = {"quality": ".quality.html", "explanation": SUFFIX}


def report_file(db: Engine, home: Path, check: int, part: str | None) -> Path | None:
    """The file of a check's report or of a part of it; None where there is none."""
    if check >= 2**63:  # no database numbers rows so far
        return None
    with db.connect() as connection:
        name = connection.scalar(select(checks.c.report).where(checks.c.id == check))
    if not name:
        return None
    path = home / "reports" / Path(name).name
    if part is not None:
        path = path.with_suffix(PARTS.get(part, ".none"))
    return path if path.is_file() else None
