"""Which bases versions are made for, and whose dataset a version learned: so far one base, each version its own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "bases",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("image_fingerprint", sa.String(), nullable=False),
        sa.Column("text_fingerprint", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["versions.number"], name="fk_bases_number"),
        sa.PrimaryKeyConstraint("number", name="pk_bases"),
    )
    op.execute(
        "INSERT INTO bases (number, name, image_fingerprint, text_fingerprint, created_at) "
        "SELECT number, '', '', coalesce(manifest_sha256, ''), created_at FROM versions WHERE number = 0"
    )
    op.add_column("versions", sa.Column("dataset", sa.String(), nullable=True))
