"""Requests that failed, as far as a check has judged them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("checks", sa.Column("last_outcome_hour", sa.BigInteger(), nullable=True))
    op.add_column("checks", sa.Column("error_rate", sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("checks", "error_rate")
    op.drop_column("checks", "last_outcome_hour")
