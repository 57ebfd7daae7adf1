"""Accuracy with an interval, beside each check."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("checks", sa.Column("quality", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("checks", "quality")
