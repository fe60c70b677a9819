"""Words of pictures, for searches by words: documents of terms, and what finds a term in them.

SQLite gets a table of FTS5 that triggers keep in step with the documents; PostgreSQL an index of its own text search.
Neither cuts a text into words: `model.words` did. Pictures of before get their words here.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from model.errors import RegistryUnavailable
from model.words import document

revision = "0008"
down_revision = "0007"
_BATCH = 2_000  # pictures whose texts are in memory at a time

_FTS5 = (
    "CREATE VIRTUAL TABLE picture_terms USING fts5(terms, content='picture_words', content_rowid='id', "
    "tokenize='ascii', detail='none', columnsize=0)",
    "CREATE TRIGGER picture_words_added AFTER INSERT ON picture_words BEGIN "
    "INSERT INTO picture_terms (rowid, terms) VALUES (new.id, new.terms); END",
    "CREATE TRIGGER picture_words_gone AFTER DELETE ON picture_words BEGIN "
    "INSERT INTO picture_terms (picture_terms, rowid, terms) VALUES ('delete', old.id, old.terms); END",
    "CREATE TRIGGER picture_words_changed AFTER UPDATE OF id, terms ON picture_words BEGIN "
    "INSERT INTO picture_terms (picture_terms, rowid, terms) VALUES ('delete', old.id, old.terms); "
    "INSERT INTO picture_terms (rowid, terms) VALUES (new.id, new.terms); END",
)
_GIN = "CREATE INDEX picture_terms ON picture_words USING gin (array_to_tsvector(string_to_array(terms, ' ')))"


def upgrade() -> None:
    """Forward only: restore a backup to go back."""
    op.create_table(
        "picture_words",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("picture", sa.BigInteger(), nullable=False),
        sa.Column("expansion", sa.String(), nullable=True),
        sa.Column("terms", sa.String(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["picture"], ["pictures.key"], name="fk_picture_words_picture", ondelete="CASCADE", onupdate="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_picture_words"),
    )
    op.create_index("ix_picture_words_picture", "picture_words", ["picture"])
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    if on_sqlite and not op.get_bind().scalar(sa.text("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")):
        raise RegistryUnavailable("The SQLite of this Python has no FTS5, which searches by words need.")
    for statement in _FTS5 if on_sqlite else ():
        op.execute(statement)
    _fill(op.get_bind())
    if not on_sqlite:
        op.execute(_GIN)  # many times faster than to add every document to it


def _fill(connection: sa.Connection) -> None:
    pictures = sa.table(
        "pictures", sa.column("id"), sa.column("key"), sa.column("tags", sa.JSON), sa.column("metadata", sa.JSON)
    )
    words = sa.table("picture_words", *map(sa.column, ("picture", "expansion", "terms", "length")))
    page = sa.select(pictures).order_by(pictures.c.id).limit(_BATCH)
    found = connection.execute(page).all()
    while found:
        rows = [row for row in _documents(connection, found) if row["terms"]]
        if rows:
            connection.execute(sa.insert(words), rows)
        found = connection.execute(page.where(pictures.c.id > found[-1].id)).all()


def _documents(connection: sa.Connection, found: Any) -> Iterator[dict[str, Any]]:
    """A row for what was said with each of these pictures, and one for each expansion that captioned it."""
    captions = sa.table("captions", *map(sa.column, ("id", "picture_id", "text", "expansion")))
    between = captions.c.picture_id.between(found[0].id, found[-1].id)
    query = sa.select(captions.c.picture_id, captions.c.expansion, captions.c.text).where(between)
    told: dict[str, dict[str | None, list[str]]] = {}
    for id, by, text in connection.execute(query.order_by(captions.c.id)):
        told.setdefault(id, {}).setdefault(by, []).append(text)
    for id, key, tags, metadata in found:
        values = (each for value in metadata.values() for each in (value if isinstance(value, list) else [value]))
        record = [*tags, *(value for value in values if isinstance(value, str))]
        of = told.get(id, {})
        for by, texts in {**of, None: [*record, *of.get(None, [])]}.items():
            terms, length = document(texts)
            yield {"picture": key, "expansion": by, "terms": terms, "length": length}
