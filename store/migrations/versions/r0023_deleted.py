"""Deleted pictures, which can be brought back for a day."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
tables = "a1bd259e45b95047"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "deleted_pictures",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("deleted_at", sa.Double, nullable=False),
        sa.Column("content_sha256", sa.String, nullable=False),
        sa.Column("collection", sa.String, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("original", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("captions", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deleted_pictures"),
    )
