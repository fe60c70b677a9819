"""Sessions of browsers."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
tables = "d63e090bb06ea8cf"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
