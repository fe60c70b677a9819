"""Terms of languages, and with which terms each dataset was sent and each version made."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
tables = "afd1afd59bfa0b7e"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "language_terms",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("terms", sa.JSON, nullable=False),
        sa.Column("set_at", sa.Double, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_language_terms"),
    )
    op.create_index("ix_language_terms_language", "language_terms", ["language"])
    for table in ("expansions", "versions"):
        op.add_column(table, sa.Column("terms", sa.Integer, nullable=True))
