"""What moved in a check's rows, and the metrics of its Evidently report as rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "explanations",
        sa.Column("check_id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["check_id"], ["checks.id"], name=op.f("fk_explanations_check_id")),
        sa.PrimaryKeyConstraint("check_id", name=op.f("pk_explanations")),
    )
    op.create_index(op.f("ix_explanations_model_check_id"), "explanations", ["model", "check_id"])
    op.create_table(
        "report_metrics",
        sa.Column("check_id", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("column", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("drifted", sa.Boolean(), nullable=False),
        sa.Column("failed", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["check_id"], ["checks.id"], name=op.f("fk_report_metrics_check_id")),
        sa.PrimaryKeyConstraint("check_id", "metric", name=op.f("pk_report_metrics")),
    )
