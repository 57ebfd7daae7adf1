"""Notices of a model's alerts, their deliveries, and silences; what was told before stays told."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DELIVERY = ("told", "untold", "tell_at", "tries", "next")
_EPISODES = sa.table(
    "episodes",
    *(sa.column(name) for name in ("id", "model", "version", "cause", "state", "fired_at")),
    sa.column("detail", sa.JSON),
)


def upgrade() -> None:
    """Create the tables; carry over what people know."""
    _create_tables()
    connection = op.get_bind()
    found = connection.execute(sa.select(_EPISODES).order_by(_EPISODES.c.id)).mappings().all()
    told: dict[str, list[Any]] = {}
    for row in found:
        if row["state"] == "firing" and row["detail"].get("told") == "firing":
            told.setdefault(row["model"], []).append(row)
        if set(row["detail"]) & set(_DELIVERY):
            kept = {key: value for key, value in row["detail"].items() if key not in _DELIVERY}
            connection.execute(sa.update(_EPISODES).where(_EPISODES.c.id == row["id"]).values(detail=kept))
    for model, rows in told.items():
        _know(connection, model, rows)


def downgrade() -> None:
    """Drop the tables."""
    for name in ("silences", "deliveries", "notices"):
        op.drop_table(name)


def _know(connection: sa.Connection, model: str, rows: list[Any]) -> None:
    """A notice that nobody has to send: the old columns said that people had heard."""
    names = ["model", "version", "kind", "group_id", "causes", "dedupe_key", "key", "created_at", "routed_at"]
    notices = sa.table("notices", *(sa.column(name, sa.JSON if name == "causes" else None) for name in names))
    first = rows[0]
    values = (
        model,
        first["version"],
        "firing",
        first["id"],
        [row["cause"] for row in rows],
        f"{model}:0",
        secrets.token_hex(16),
        max(row["fired_at"] for row in rows),
        max(row["fired_at"] for row in rows),
    )
    connection.execute(sa.insert(notices).values(**dict(zip(names, values, strict=True))))


def _create_tables() -> None:
    op.create_table(
        "notices",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("causes", sa.JSON(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=True),
        sa.Column("routed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_notices_dedupe_key")),
        sa.UniqueConstraint("key", name=op.f("uq_notices_key")),
    )
    op.create_index(op.f("ix_notices_model_id"), "notices", ["model", "id"])
    unrouted = sa.text("routed_at is null")
    op.create_index(
        "ix_notices_unrouted", "notices", ["id"], postgresql_where=unrouted, sqlite_where=unrouted
    )
    op.create_table(
        "deliveries",
        sa.Column("notice_id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["notice_id"], ["notices.id"], name=op.f("fk_deliveries_notice_id")),
        sa.PrimaryKeyConstraint("notice_id", "channel", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_state_not_before"), "deliveries", ["state", "not_before"])
    op.create_table(
        "silences",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_silences")),
    )
    op.create_index(op.f("ix_silences_model_ends_at"), "silences", ["model", "ends_at"])
