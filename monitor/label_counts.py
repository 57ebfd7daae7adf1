"""Labels counted by version: what was counted once is kept, and only labels that came since are looked at.

Labels become visible in the order of their `seq` and never change, so a count up to one of them stays true
until a person is forgotten. Without a row in `label_counts` everything is counted from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, func, not_, select

from exporter.blocks import LOADING
from exporter.database import lock_order, unindexed, upsert
from exporter.generation import said, told
from exporter.tables import labels, predictions
from monitor.tables import episodes, label_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """Labels of a version's predictions up to the label `last_seq`, of whichever version that is."""

    rows: int = 0
    right: int = 0
    readable: int = 0  # whose text was kept
    last_seq: int = 0
    own_seq: int = 0  # the newest that is counted here


def count_labels(connection: Connection, model: str, version: str) -> LabelCount:
    """All labels of the version's predictions."""
    kept = _kept(connection, model, version)
    last = (
        connection.scalar(select(func.max(labels.c.seq))) or 0
    )  # read first: what comes now is counted later
    counts = (
        func.count(told()).label("rows"),
        func.count(case((told() == said(), 1))).label("right"),
        func.count(case((readable_text(), 1))).label("readable"),
        func.max(labels.c.seq).label("own_seq"),
    )
    query = labelled(model, version, *counts, after_seq=kept.last_seq).where(labels.c.seq <= last)
    found = connection.execute(query).one()
    return LabelCount(
        rows=kept.rows + found.rows,
        right=kept.right + found.right,
        readable=kept.readable + found.readable,
        last_seq=last,
        own_seq=found.own_seq or kept.own_seq,
    )


def keep_count(connection: Connection, model: str, version: str) -> None:
    """Store the count, so that the next one begins where it ends."""
    lock_order(connection, LOADING)  # `recount` must not come between what is read and what is kept
    row = asdict(count_labels(connection, model, version))
    statement = upsert(label_counts, connection.dialect.name).values(model=model, version=version, **row)
    connection.execute(statement.on_conflict_do_update(index_elements=["model", "version"], set_=row))


def recount(connection: Connection, prediction_ids: Sequence[str]) -> None:
    """Let the models of predictions that are about to go be counted from the beginning."""
    models = select(predictions.c.model).where(predictions.c.id.in_(prediction_ids))
    connection.execute(delete(label_counts).where(label_counts.c.model.in_(models)))


def labels_of_job(
    connection: Connection,
    model: str,
    version: str | None,
    episode: int | None,
    *,
    at: float | None = None,
) -> int:
    """Labels that a retrain has to learn from, up to `at`: since the drift that it answers, or all."""
    onset = 0
    if episode is not None:
        detail = connection.scalar(select(episodes.c.detail).where(episodes.c.id == episode))
        onset = int((detail or {}).get("onset_seq", 0))
    query = labelled(model, version, func.count(), after_seq=0).where(predictions.c.seq >= onset)
    if at is not None:
        query = query.where(labels.c.at <= at)
    return int(connection.scalar(query) or 0)


def first_unseen(connection: Connection, model: str, version: str, after_seq: int) -> int:
    """A label `seq` from `after_seq` on; none of the version's labels lies between the two."""
    kept = _kept(connection, model, version)
    return max(after_seq, kept.last_seq) if kept.own_seq <= after_seq else after_seq


def labelled(model: str, version: str | None, *columns: ColumnElement[Any], after_seq: int) -> Select[Any]:
    """`columns` of the version's predictions with the labels that came after `after_seq`.

    By way of the labels: a version has many more predictions, and SQLite would look at all of them.
    """
    return (
        select(*columns)
        .select_from(labels.join(predictions, labels.c.prediction_id == predictions.c.id))
        .where(
            unindexed(predictions.c.model) == model,
            unindexed(predictions.c.version) == version,
            labels.c.seq > after_seq,
        )
    )


def readable_text() -> ColumnElement[bool]:
    """Rows whose text was kept; a hash teaches nothing."""
    text = predictions.c.text
    return and_(text.is_not(None), text != "", not_(text.like("sha256:%")))


def _kept(connection: Connection, model: str, version: str) -> LabelCount:
    columns = (label_counts.c[name] for name in LabelCount.__dataclass_fields__)
    query = select(*columns).where(label_counts.c.model == model, label_counts.c.version == version)
    found = connection.execute(query).mappings().first()
    return LabelCount(**found) if found else LabelCount()
