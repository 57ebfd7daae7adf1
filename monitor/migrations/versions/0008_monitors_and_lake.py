"""Monitors by process, days that were sealed in files, and labels that were counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and the column."""
    op.add_column("jobs", sa.Column("labels", sa.BigInteger(), nullable=True))
    op.create_table(
        "label_counts",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("right", sa.BigInteger(), nullable=False),
        sa.Column("readable", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("own_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_label_counts")),
    )
    op.create_table(
        "monitors",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("pk_monitors")),
    )
    op.create_table(
        "sealed_days",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until_seq", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "start_at", "part", name=op.f("pk_sealed_days")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("sealed_days")
    op.drop_table("label_counts")
    op.drop_column("jobs", "labels")
    op.drop_table("monitors")
