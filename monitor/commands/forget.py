"""`trueup forget`: one person's rows, deleted."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, delete

from exporter.forgetting import forget as forget_rows
from exporter.loader import load_once
from monitor.commands import Context, Outcome
from monitor.label_counts import recount
from monitor.tables import label_requests

REMAINS = (
    "Counts by hour and sums of embeddings, which name nobody.",
    "Versions trained on these rows, their hold-outs, and the snapshots in <home>/data, until housekeeping.",
    "Reports and explanations that quote a text, until they are replaced.",
    "Loaded rows in the open ledger segment of each live exporter, for [exporter] segment_age_s (an hour).",
    "Damaged bytes set aside in <home>/ledger/.damaged, until you delete them.",
    "Days sealed into files outside the database, and backups.",
)


def forget(context: Context, *, key: str, value: str) -> Outcome:
    """Delete rows whose metadata has `key` = `value`; those in ledgers are left out when they are loaded."""
    load_once(context.db, context.home / "ledger")
    found = forget_rows(context.db, key, value, actor=getpass.getuser(), before=_forget_what_we_keep)
    rows = len(found.prediction_ids)
    said = f"{rows} predictions and {found.labels} labels deleted (record {found.id}). What remains:"
    data = asdict(found) | {"remains": list(REMAINS)}
    return Outcome(data=data, view=(said, *(f"  {line}" for line in REMAINS)))


def _forget_what_we_keep(connection: Connection, ids: Sequence[str]) -> None:
    recount(connection, ids)
    connection.execute(delete(label_requests).where(label_requests.c.prediction_id.in_(ids)))
