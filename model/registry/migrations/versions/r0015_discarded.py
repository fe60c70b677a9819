"""Contents that no picture has any more, whose files are kept for some time."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "discarded_contents",
        sa.Column("content_sha256", sa.String(), primary_key=True),
        sa.Column("discarded_at", sa.Double(), nullable=False),
    )
