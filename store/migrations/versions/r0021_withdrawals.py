"""Withdrawals of languages, with their certificates."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
tables = "dd41f3b1dba63b3e"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "withdrawals",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("terms", sa.Integer, nullable=True),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("certificate", sa.JSON, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_withdrawals"),
    )
    op.create_index("ix_withdrawals_language", "withdrawals", ["language"])
