"""Vectors and calibrations have checksums. Calibrations are measured again."""

import zlib

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
_BATCH = 2_000  # vectors in memory at a time


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    _check("picture_halves", ["content_sha256", "fingerprint"])
    _check("caption_halves", ["caption_id", "version", "fingerprint"])
    op.drop_table("calibrations")
    op.create_table(
        "calibrations",
        sa.Column(
            "version", sa.Integer(), sa.ForeignKey("versions.number", name="fk_calibrations_version"), nullable=False
        ),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("measured", sa.LargeBinary(), nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("version", "language", name="pk_calibrations"),
    )


def _check(name: str, key: list[str]) -> None:
    """Put a CRC-32 behind every vector of a table, in the order of its primary key."""
    table = sa.table(name, *(sa.column(each) for each in key), sa.column("vector"))
    ordered = [table.c[each] for each in key]
    first = sa.select(table).order_by(*ordered).limit(_BATCH)
    change = sa.update(table).where(*(table.c[each] == sa.bindparam(f"old_{each}") for each in key))
    change = change.values(vector=sa.bindparam("checked"))
    connection = op.get_bind()
    rows = connection.execute(first).all()
    while rows:
        checked = [
            {f"old_{each}": getattr(row, each) for each in key}
            | {"checked": bytes(row.vector) + zlib.crc32(row.vector).to_bytes(4, "little")}
            for row in rows
        ]
        connection.execute(change, checked)
        last = sa.tuple_(*(sa.literal(getattr(rows[-1], each)) for each in key))
        rows = connection.execute(first.where(sa.tuple_(*ordered) > last)).all()
