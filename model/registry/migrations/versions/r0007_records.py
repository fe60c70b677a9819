"""Pictures as records: collection, tags, metadata, and their values as rows for filters; keys bound to collections.

Pictures of before are in the collection `default`, without tags and metadata.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("pictures", sa.Column("collection", sa.String(), nullable=False, server_default="default"))
    op.add_column("pictures", sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("pictures", sa.Column("metadata", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("pictures", sa.Column("etag", sa.String(), nullable=False, server_default=""))
    op.add_column("pictures", sa.Column("record", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE pictures SET etag = substr(content_sha256, 1, 16)")
    op.create_index("ix_pictures_collection_key", "pictures", ["collection", "key"])
    op.create_index("ix_pictures_collection_created_at_id", "pictures", ["collection", "created_at", "id"])
    op.create_index("ix_pictures_record", "pictures", ["record"])
    op.create_table(
        "picture_values",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("picture", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("number", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["picture"], ["pictures.key"], name="fk_picture_values_picture", ondelete="CASCADE", onupdate="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_picture_values"),
    )
    op.create_index("ix_picture_values_picture", "picture_values", ["picture"])
    op.create_index("ix_picture_values_text", "picture_values", ["key", "kind", "text", "picture"])
    op.create_index("ix_picture_values_number", "picture_values", ["key", "kind", "number", "picture"])
    op.create_table(
        "record_changes",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_record_changes"),
    )
    op.execute("INSERT INTO record_changes (id, last) VALUES (1, 0)")
    op.add_column("api_keys", sa.Column("collections", sa.JSON(), nullable=True))
