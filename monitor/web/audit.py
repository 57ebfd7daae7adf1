"""Who asked for what on the status page: written before it is done, ended after it, once for each form."""

from __future__ import annotations

import re
from typing import Any, Literal

from sqlalchemy import Connection, Engine, RowMapping, select, update

from exporter.database import NOW, upsert
from monitor.errors import FormError
from monitor.tables import audit

Outcome = Literal["done", "refused"]
_ONCE = re.compile(r"[0-9a-f]{32}")


def begin(
    db: Engine, *, once: str, actor: str, address: str, action: str, model: str, detail: dict[str, Any]
) -> int | None:
    """Note what is asked for and return its number; None where this form was sent before."""
    if not _ONCE.fullmatch(once):
        raise FormError("The form cannot be read.", 400)
    row = {
        "at": NOW, "actor": actor, "address": address, "action": action, "model": model, "detail": detail,
        "once": once,
    }  # fmt: skip
    statement = upsert(audit, db.dialect.name).values(**row).on_conflict_do_nothing().returning(audit.c.id)
    with db.begin() as connection:
        number: int | None = connection.scalar(statement)
    return number


def end(db: Engine, number: int, outcome: Outcome, said: str) -> None:
    """Note how it ended, in the words that the person reads."""
    with db.begin() as connection:
        connection.execute(update(audit).where(audit.c.id == number).values(outcome=outcome, said=said))


def number_of(db: Engine, once: str) -> int | None:
    """The number of what was asked with this form."""
    with db.connect() as connection:
        return connection.scalar(select(audit.c.id).where(audit.c.once == once))


def read(connection: Connection, model: str, number: int) -> RowMapping | None:
    """One row of the model."""
    query = select(audit).where(audit.c.id == number, audit.c.model == model)
    return connection.execute(query).mappings().first()
