"""Generated answers, one row beside each prediction of a language model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "generations",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("first_token_ms", sa.Double(), nullable=False),
        sa.Column("tokens_per_s", sa.Double(), nullable=True),
        sa.Column("mean_logprob", sa.Double(), nullable=False),
        sa.Column("min_logprob", sa.Double(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("top_p", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("guided", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_generations")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("generations")
