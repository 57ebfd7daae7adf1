"""Rows counted by slice, and the references of slices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; blocks of before are not counted by slice."""
    op.add_column("sketches", sa.Column("slices", sa.JSON(), nullable=True))
    op.add_column("blocks", sa.Column("slices", sa.JSON(), nullable=True))
    op.add_column("blocks", sa.Column("slice_counts", sa.LargeBinary(), nullable=True))
    op.add_column("pagers", sa.Column("slices", sa.JSON(), nullable=True))
    op.create_table(
        "slice_references",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("season", sa.Text(), nullable=False),
        sa.Column("sketch", sa.Text(), nullable=False),
        sa.Column("strata", sa.JSON(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=False),
        sa.Column("frozen_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("model", "version", "slice", name=op.f("pk_slice_references")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("slice_references")
    op.drop_column("pagers", "slices")
    op.drop_column("blocks", "slice_counts")
    op.drop_column("blocks", "slices")
    op.drop_column("sketches", "slices")
