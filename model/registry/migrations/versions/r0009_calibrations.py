"""How the chances of hits are told, by version and language. Workers measure what is not there."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "calibrations",
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("encoding", sa.Integer(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("pictures", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("curves", sa.JSON(), nullable=True),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["versions.number"], name="fk_calibrations_version"),
        sa.PrimaryKeyConstraint("version", "language", name="pk_calibrations"),
    )
