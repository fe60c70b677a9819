"""Rows of datasets that are too small to teach a language from."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
tables = "0dfc15bad3628c4e"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "waiting_rows",
        sa.Column("language", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("kept_at", sa.Double, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("language", "digest", name="pk_waiting_rows"),
    )
