"""Hourly counts in the database; they add up over batches, exporters and hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from sqlalchemy import Connection

from exporter.database import upsert
from exporter.tables import rollups

Rollup: TypeAlias = tuple[str, str, int, str, str]  # model, version, start of the hour, series, bin


def add_rollups(connection: Connection, counts: Mapping[Rollup, int]) -> None:
    """Add to what is there."""
    table = upsert(rollups, connection.dialect.name)
    added = table.on_conflict_do_update(
        index_elements=list(rollups.primary_key), set_={"rows": rollups.c.rows + table.excluded.rows}
    )
    keys = [column.name for column in rollups.primary_key]
    rows = [dict(zip(keys, key, strict=True)) | {"rows": n} for key, n in sorted(counts.items())]
    connection.execute(added, rows)
