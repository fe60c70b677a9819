"""Pictures know when they were taken, in an order that an index has."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
tables = "09b0ff65a8d126fa"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back. A picture is placed by its metadata as soon as they tell a date."""
    op.add_column("pictures", sa.Column("shown_at", sa.Double, nullable=False, server_default="0"))
    dates = sa.text(
        "UPDATE pictures SET shown_at = coalesce((SELECT min(number) FROM picture_values WHERE key = 'taken_at' AND "
        "kind = 'date' AND picture = pictures.key AND number BETWEEN -62135596800 AND 253402300799), created_at)"
    )
    op.get_bind().execute(dates)
    op.create_index("ix_pictures_shown_at_id", "pictures", ["shown_at", "id"])
    op.create_index("ix_pictures_collection_shown_at_id", "pictures", ["collection", "shown_at", "id"])
