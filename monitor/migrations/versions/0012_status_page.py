"""What the status page reads, and what people do on it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MEASURED = sa.text("quality is not null")


def upgrade() -> None:
    """Create the tables and the indexes."""
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("once", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("once", name=op.f("uq_audit_once")),
    )
    op.create_index(op.f("ix_audit_model_id"), "audit", ["model", "id"])
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("key", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sessions")),
    )
    for table in ("episodes", "jobs"):
        op.create_index(op.f(f"ix_{table}_model_id"), table, ["model", "id"])
    op.create_index("ix_checks_course", "checks", ["model", "at", "log_e", "log_page_line", "paged", "id"])
    op.create_index(
        "ix_checks_measured",
        "checks",
        ["model", "id"],
        postgresql_where=_MEASURED,
        sqlite_where=_MEASURED,
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("jobs", "episodes"):
        op.drop_index(op.f(f"ix_{table}_model_id"), table)
    op.drop_index("ix_checks_measured", "checks")
    op.drop_index("ix_checks_course", "checks")
    op.drop_table("sessions")
    op.drop_index(op.f("ix_audit_model_id"), "audit")
    op.drop_table("audit")
