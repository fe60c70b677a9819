"""Whether the bytes of a picture were kept as they were sent: of each picture, no longer of each content.

Of pictures of before, whichever has a content whose original is there has it, as until now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.add_column("pictures", sa.Column("original", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(sa.update(sa.table("pictures", sa.column("original", sa.Boolean))).values(original=True))
