"""Answers of speakers to the words that a gallery asks for, and words of searches that nobody taught."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
tables = "b9304a4c03081a60"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "word_answers",
        sa.Column("language", sa.String, nullable=False),
        sa.Column("english", sa.String, nullable=False),
        sa.Column("captions", sa.JSON, nullable=False),
        sa.Column("answered_at", sa.Double, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("language", "english", name="pk_word_answers"),
    )
    op.create_table(
        "unknown_words",
        sa.Column("language", sa.String, nullable=False),
        sa.Column("word", sa.String, nullable=False),
        sa.Column("searches", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("language", "word", name="pk_unknown_words"),
    )
