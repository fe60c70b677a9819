"""Which backend, in which precision, made the vectors: in every registry so far, torch in float32."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "encodings",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("precision", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_encodings"),
    )
    op.execute(
        "INSERT INTO encodings (number, backend, precision, reason, created_at) "
        "SELECT 1, 'torch', 'float32', '', created_at FROM versions WHERE number = 0"
    )
    with op.batch_alter_table("caption_vectors") as table:
        table.add_column(sa.Column("fingerprint", sa.String(), nullable=False, server_default=""))
    op.execute(
        "UPDATE caption_vectors SET fingerprint = coalesce((SELECT manifest_sha256 FROM versions WHERE number = 0), '')"
    )
    with op.batch_alter_table("caption_vectors") as table:
        table.alter_column("fingerprint", existing_type=sa.String(), existing_nullable=False, server_default=None)
        table.drop_constraint("pk_caption_vectors", type_="primary")
        table.create_primary_key("pk_caption_vectors", ["caption_id", "version", "fingerprint"])
