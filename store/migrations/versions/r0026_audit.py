"""The audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
tables = "94300ad66fd86da6"  # their hash once this step was applied, as the test of migrations says


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("targets", sa.JSON, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
        sqlite_autoincrement=True,
    )
