"""An index for listing pictures, a feed with one row per picture, and answers kept under an idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_index("ix_pictures_created_at_id", "pictures", ["created_at", "id"])
    # only the last change of each picture is needed
    op.execute(
        "DELETE FROM gallery_changes WHERE change NOT IN (SELECT max(change) FROM gallery_changes GROUP BY picture_id)"
    )
    op.create_index("ix_gallery_changes_picture_id", "gallery_changes", ["picture_id"])
    with op.batch_alter_table("idempotency_keys") as table:
        table.alter_column("expansion", existing_type=sa.String(), nullable=True)
        table.add_column(sa.Column("answer", sa.JSON(), nullable=True))
