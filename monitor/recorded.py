"""A model's own predictions with their labels, as rows to train on: `[data] recorded = "router"`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, select

from exporter import registry
from exporter.tables import labels, predictions
from monitor.label_counts import readable_text
from trainer.errors import DataError
from trainer.rows import Row, fields_of
from trainer.spec import DataTable

RECENT = 2000


def recorded_rows(db: Engine, data: DataTable) -> list[Row] | None:
    """Labelled predictions whose text was kept, oldest first; None where the spec reads from elsewhere.

    Of a text that came several times the newest label counts. Raises DataError where there are none.
    """
    if data.recorded is None:
        return None
    since = 0.0 if data.since is None else data.since.timestamp()
    with db.connect() as connection:
        rows = _rows(connection, data.recorded, since, data.slices)
    if not rows:
        there = ", ".join(registry.models(db)) or "none"
        raise DataError(
            f"the predictions of {data.recorded!r}",
            None,
            f"none has a label and its text (models: {there})",
            "Send labels, keep texts ([exporter] store_text), or set [data] since earlier.",
        )
    return rows


def _rows(connection: Connection, model: str, since: float, slices: Sequence[str]) -> list[Row]:
    query = (
        select(predictions.c.text, predictions.c.at, predictions.c.metadata, labels.c.label)
        .join(labels, labels.c.prediction_id == predictions.c.id)
        .where(predictions.c.model == model, predictions.c.at >= since, readable_text())
        .order_by(predictions.c.at, labels.c.seq)
    )
    found: dict[str, Row] = {}
    for text, at, metadata, label in connection.execution_options(stream_results=True).execute(query):
        found.pop(text, None)
        found[text] = Row(text=text, label=label, at=at, origin="traffic", fields=fields_of(metadata, slices))
    return list(found.values())


def recent_texts(db: Engine, model: str) -> list[str]:
    """The newest texts that `model` was asked and that were kept, each once: at most RECENT."""
    query = select(predictions.c.text).where(predictions.c.model == model, readable_text())
    with db.connect() as connection:
        found = connection.scalars(query.order_by(predictions.c.seq.desc()).limit(RECENT)).all()
    return list(dict.fromkeys(text for text in found if text is not None))
