"""Versions that learned several datasets at once: the column `dataset` becomes the list `datasets`."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_VERSIONS = sa.table(
    "versions", sa.column("number", sa.Integer), sa.column("dataset", sa.String), sa.column("datasets", sa.JSON)
)


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("versions", sa.Column("datasets", sa.JSON(), nullable=False, server_default="[]"))
    connection = op.get_bind()
    named = sa.select(_VERSIONS.c.number, _VERSIONS.c.dataset).where(_VERSIONS.c.dataset.is_not(None))
    for number, dataset in connection.execute(named).all():
        connection.execute(sa.update(_VERSIONS).where(_VERSIONS.c.number == number).values(datasets=[dataset]))
    op.drop_column("versions", "dataset")
