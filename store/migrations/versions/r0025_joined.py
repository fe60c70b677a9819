"""Whose dataset the rows that wait have joined."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
tables = "bec9867ae3094eb7"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("waiting_rows", sa.Column("expansion", sa.String, nullable=True))
