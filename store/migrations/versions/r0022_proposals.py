"""Captions that people propose for pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
tables = "d9977653c1ba2965"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "caption_proposals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("picture", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("same", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("person", sa.String, nullable=False),
        sa.Column("proposed_at", sa.Double, nullable=False),
        sa.Column("accepted_at", sa.Double, nullable=True),
        sa.Column("accepted_by", sa.String, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_caption_proposals"),
        sa.ForeignKeyConstraint(["picture"], ["pictures.id"], name="fk_caption_proposals_picture", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_caption_proposals_language_picture", "caption_proposals", ["language", "picture"])
    op.create_index("ix_caption_proposals_picture", "caption_proposals", ["picture"])
