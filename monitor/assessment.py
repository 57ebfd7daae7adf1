"""How good the champion is on its recent rows: measured after a check, kept in the check's row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, select, update

from exporter.tables import predictions
from monitor.quality import Quality, read_quality
from monitor.tables import checks

ROWS = 1000  # recent rows that the figure is about, or the window where that is longer


def assess(db: Engine, check: int, model: str, version: str, *, window: int) -> Quality:
    """Measure the newest max(ROWS, window) rows of a version and keep what was found with the check."""
    rows = max(ROWS, window)
    newest = select(predictions.c.seq).where(predictions.c.model == model, predictions.c.version == version)
    with db.connect() as connection:
        before = connection.scalar(newest.order_by(predictions.c.seq.desc()).offset(rows).limit(1))
    quality = read_quality(db, model, version, since_seq=before or 0)
    with db.begin() as connection:
        connection.execute(update(checks).where(checks.c.id == check).values(quality=asdict(quality)))
    return quality


def said(quality: dict[str, Any] | None) -> str:
    """An accuracy with its interval in words.

    >>> said({"state": "ok", "accuracy": 0.912, "lower": 0.88, "upper": 0.94, "labels": 120, "rows": 1000})
    '0.912 [0.880, 0.940], 120 labels of 1000 rows'
    >>> said(None), said({"state": "not enough data"})
    ('–', 'not enough labels')
    """
    if quality is None:
        return "–"
    if quality["state"] != "ok":
        return "not enough labels"
    interval = f"{quality['accuracy']:.3f} [{quality['lower']:.3f}, {quality['upper']:.3f}]"
    return f"{interval}, {quality['labels']} labels of {quality['rows']} rows"
