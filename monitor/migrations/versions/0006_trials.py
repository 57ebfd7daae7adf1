"""Challengers that answer beside the champion."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "trials",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("challenger", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "challenger"],
            ["versions.model", "versions.version"],
            name=op.f("fk_trials_model"),
        ),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_trials")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("trials")
