"""Blocks of counted rows, the sketches that say how they are counted, and seasons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; predictions of before have neither descriptors nor words."""
    op.add_column("predictions", sa.Column("descriptors", sa.JSON(), nullable=True))
    op.add_column("predictions", sa.Column("words", sa.LargeBinary(), nullable=True))
    _sketches()
    _blocks()
    _seasons()


def _sketches() -> None:
    op.create_table(
        "sketches",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "version"],
            ["versions.model", "versions.version"],
            name=op.f("fk_sketches_model_version"),
        ),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_sketches")),
    )


def _blocks() -> None:
    op.create_table(
        "blocks",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.Double(), nullable=False),
        sa.Column("end_at", sa.Double(), nullable=False),
        sa.Column("sketch", sa.Text(), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.Column("embedding_sum", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("model", "version", "first_seq", name=op.f("pk_blocks")),
    )


def _seasons() -> None:
    op.create_table(
        "seasons",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("season", sa.Text(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("sketch", sa.Text(), nullable=False),
        sa.Column("strata", sa.JSON(), nullable=False),
        sa.Column("frozen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version", "season", name=op.f("pk_seasons")),
    )
