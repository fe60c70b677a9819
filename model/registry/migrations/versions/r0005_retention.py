"""When a version was pruned, and under which release: its row stays, its files and vectors go."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("versions", sa.Column("pruned_at", sa.Double(), nullable=True))
    op.add_column("versions", sa.Column("pruned_release", sa.Integer(), nullable=True))
