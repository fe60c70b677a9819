"""When an attempt last told how far it is, and how many attempts ended together with their worker."""

import sqlalchemy as sa
from alembic import op

from model.registry.clock import Instant

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("expansions", sa.Column("moved_at", Instant(), nullable=True))
    op.add_column("expansions", sa.Column("vanished", sa.Integer(), nullable=False, server_default="0"))
