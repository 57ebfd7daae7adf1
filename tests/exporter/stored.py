"""What an exporter's database has of a prediction, once it was labelled: a label waits for the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from exporter.database import open_database, sqlite_url
from exporter.tables import predictions


def label(url: str, id_: str, truth: str = "no") -> dict[str, Any]:
    """What the server says of one label."""
    answer = httpx.post(f"{url}/v1/labels", json={"labels": [{"id": id_, "label": truth}]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def labelled(url: str, home: Path, id_: str) -> dict[str, Any]:
    """The row of a prediction that takes a label."""
    assert label(url, id_)["stored"] == 1
    db = open_database(sqlite_url(home))
    with db.connect() as connection:
        found = connection.execute(select(predictions).where(predictions.c.id == id_)).mappings().one()
    db.dispose()
    return dict(found)
