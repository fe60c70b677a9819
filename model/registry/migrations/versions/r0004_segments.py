"""Sealed segments instead of whole generations; vectors as halves; a key for each picture; duties.

Generations were copies of the vectors in these tables: segments are made from the tables, and the old files are swept.
The tables of vectors get other names, so that a process of an earlier release that still runs cannot put a picture
without a key, or a vector in float32: every such transaction of it fails.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
_BATCH = 2_000  # vectors in memory at a time


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "vector_sets",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("upto_change", sa.Integer(), nullable=False),
        sa.Column("segments", sa.JSON(), nullable=False),
        sa.Column("dead", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_vector_sets"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_vector_sets_identity", "vector_sets", ["kind", "fingerprint", "language", "version"])
    op.create_table(
        "duties",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_duties"),
    )
    op.drop_table("generations")
    # Not by `batch_alter_table`: SQLite would make the table anew, and drop the old one with all captions of its rows
    op.add_column("pictures", sa.Column("key", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE pictures SET key = change")  # each change is of one picture
    op.create_index("ix_pictures_key", "pictures", ["key"], unique=True)
    _halve("picture_vectors", ["content_sha256", "fingerprint"])
    _halve("caption_vectors", ["caption_id", "version", "fingerprint"])
    op.rename_table("picture_vectors", "picture_halves")
    op.rename_table("caption_vectors", "caption_halves")


def _halve(name: str, key: list[str]) -> None:
    """Round every vector of a table from float32 to float16, in the order of its primary key."""
    table = sa.table(name, *(sa.column(each) for each in key), sa.column("vector"))
    ordered = [table.c[each] for each in key]
    first = sa.select(table).order_by(*ordered).limit(_BATCH)
    change = sa.update(table).where(*(table.c[each] == sa.bindparam(f"old_{each}") for each in key))
    change = change.values(vector=sa.bindparam("halves"))
    connection = op.get_bind()
    rows = connection.execute(first).all()
    if rows:
        import numpy as np  # only now: every process reads this file while it keeps all others from writing

    while rows:
        halved = [
            {f"old_{each}": getattr(row, each) for each in key}
            | {"halves": np.frombuffer(row.vector, "<f4").astype("<f2").tobytes()}
            for row in rows
        ]
        connection.execute(change, halved)
        last = sa.tuple_(*(sa.literal(getattr(rows[-1], each)) for each in key))
        rows = connection.execute(first.where(sa.tuple_(*ordered) > last)).all()
