"""A version names every dataset that its language was taught from, those of the versions that it builds upon too."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_VERSIONS = sa.table(
    "versions",
    *map(sa.column, ("number", "parent", "language", "expansion")),
    sa.column("datasets", sa.JSON),
)


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    connection, found = op.get_bind(), dict[int, dict[str, list[str]]]()
    for row in connection.execute(sa.select(_VERSIONS).order_by(_VERSIONS.c.number)).all():
        below = {} if row.parent is None else found[row.parent]  # a parent has a smaller number
        own = row.datasets or ([] if row.expansion is None else [row.expansion])
        taught = [*(source for source in below.get(row.language, ()) if source not in own), *own]
        found[row.number] = {**below, row.language: taught}
        if taught != own:
            named = sa.update(_VERSIONS).where(_VERSIONS.c.number == row.number)
            connection.execute(named.values(datasets=taught))
