"""Explanations in the database: at most one a check, written with it or after it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from exporter.database import upsert
from monitor.explain import Explanation
from monitor.tables import explanations


def write_explanation(connection: Connection, check_id: int, explanation: Explanation, *, now: float) -> None:
    """Keep the explanation of a check; a second one replaces the first."""
    row = {
        "check_id": check_id,
        "model": explanation.model,
        "version": explanation.version,
        "content": explanation.to_json(),
        "at": now,
    }
    statement = upsert(explanations, connection.dialect.name).values(**row)
    changed = {"content": row["content"], "at": now}
    connection.execute(statement.on_conflict_do_update(index_elements=["check_id"], set_=changed))


def newest_explanation(connection: Connection, model: str) -> dict[str, Any] | None:
    """The newest explanation of a model: its content, with "check" and "at"."""
    query = select(explanations).where(explanations.c.model == model)
    row = connection.execute(query.order_by(explanations.c.check_id.desc()).limit(1)).mappings().first()
    return None if row is None else {**row["content"], "check": row["check_id"], "at": row["at"]}
