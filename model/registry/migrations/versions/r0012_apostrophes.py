"""Letters that are apostrophes end a term of a search by words, as ' does: terms of before are cut there."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
_LETTERS = "\u02b9\u02bb\u02bc\u02bd\u02be\u02bf"
_BATCH = 1_000


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    words = sa.table("picture_words", *map(sa.column, ("id", "terms", "length")))
    has_one = sa.or_(*(words.c.terms.contains(letter) for letter in _LETTERS))
    page = sa.select(words.c.id, words.c.terms).where(has_one).order_by(words.c.id).limit(_BATCH)
    connection, last = op.get_bind(), 0
    while found := connection.execute(page.where(words.c.id > last)).all():
        for id, terms in found:
            cut = sorted({part for term in terms.split() for part in re.split(f"[{_LETTERS}]", term) if part})
            row = sa.update(words).where(words.c.id == id)
            connection.execute(
                row.values(terms=" ".join(cut), length=len(cut)) if cut else sa.delete(words).where(words.c.id == id)
            )
        last = found[-1].id
