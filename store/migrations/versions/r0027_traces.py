"""By which request an expansion was queued, for its trace."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
tables = "87eba3d411437959"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("expansions", sa.Column("trace", sa.String, nullable=True))
