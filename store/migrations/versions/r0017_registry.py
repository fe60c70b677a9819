"""The tables of the registry and of the gallery. Revisions 0001 to 0016 were those of earlier releases."""

import sqlalchemy as sa
from alembic import op

from store.errors import RegistryUnavailable

revision = "0017"
down_revision = None
_ACTIVE = sa.text("state IN ('queued', 'running')")
_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts no other type on by itself

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
    _expansions()
    _versions()
    _releases_and_keys()
    _pictures()
    _captions()
    _vectors()
    _values()
    _words()


def _expansions() -> None:
    op.create_table(
        "expansions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("dataset_path", sa.String),
        sa.Column("dataset_sha256", sa.String),
        sa.Column("dataset_bytes", sa.BigInteger),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("phase", sa.String),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("eta_seconds", sa.Double),
        sa.Column("version", sa.Integer),
        sa.Column("release", sa.Integer),
        sa.Column("report", sa.JSON),
        sa.Column("error_code", sa.String),
        sa.Column("error_detail", sa.String),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("stalled", sa.Integer, nullable=False),
        sa.Column("cause", sa.String),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_owner", sa.String),
        sa.Column("lease_expires", sa.Double),
        sa.Column("moved_at", sa.Double),
        sa.Column("vanished", sa.Integer, nullable=False, server_default="0"),
        sa.Index("ix_expansions_created_at_id", "created_at", "id"),
        sa.Index("uq_expansions_active", "language", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("body_sha256", sa.String, nullable=False),
        sa.Column("expansion", sa.String, sa.ForeignKey("expansions.id")),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("answer", sa.JSON),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
    )


def _versions() -> None:
    op.create_table(
        "versions",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parent", sa.Integer, sa.ForeignKey("versions.number")),
        sa.Column("language", sa.String, nullable=False, index=True),
        sa.Column("expansion", sa.String, sa.ForeignKey("expansions.id")),
        sa.Column("folder", sa.String),
        sa.Column("manifest_sha256", sa.String),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("pruned_at", sa.Double),
        sa.Column("pruned_release", sa.Integer),
        sa.Column("datasets", sa.JSON, nullable=False, server_default="[]"),
        sa.UniqueConstraint("expansion", "language"),
    )
    op.create_table(
        "bases",
        sa.Column("number", sa.Integer, sa.ForeignKey("versions.number"), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("image_fingerprint", sa.String, nullable=False),
        sa.Column("text_fingerprint", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "encodings",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("precision", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "calibrations",
        sa.Column("version", sa.Integer, sa.ForeignKey("versions.number"), primary_key=True, autoincrement=False),
        sa.Column("language", sa.String, primary_key=True),
        sa.Column("measured", sa.LargeBinary, nullable=False),
        sa.Column("sample", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )


def _releases_and_keys() -> None:
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("shared", sa.Integer, sa.ForeignKey("versions.number"), nullable=False),
        sa.Column("languages", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("change", sa.JSON, nullable=False),
        sa.Column("expansion", sa.String, sa.ForeignKey("expansions.id")),
        sa.Column("version", sa.Integer),
        sa.UniqueConstraint("expansion", "version"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("release", sa.Integer, sa.ForeignKey("releases.number"), nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scope", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("collections", sa.JSON),
    )


def _pictures() -> None:
    op.create_table(
        "gallery_changes",
        sa.Column("change", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("picture_id", sa.String, nullable=False, index=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pictures",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("content_sha256", sa.String, nullable=False, index=True),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("change", sa.Integer, nullable=False),
        sa.Column("key", sa.BigInteger, nullable=False, unique=True, index=True, server_default="0"),
        sa.Column("collection", sa.String, nullable=False, server_default="default"),
        sa.Column("tags", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("metadata", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("etag", sa.String, nullable=False, server_default=""),
        sa.Column("record", sa.BigInteger, nullable=False, index=True, server_default="0"),
        sa.Column("original", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Index("ix_pictures_created_at_id", "created_at", "id"),
        sa.Index("ix_pictures_collection_key", "collection", "key"),
        sa.Index("ix_pictures_collection_created_at_id", "collection", "created_at", "id"),
    )
    op.create_table(
        "discarded_contents",
        sa.Column("content_sha256", sa.String, primary_key=True),
        sa.Column("discarded_at", sa.Double, nullable=False),
    )


def _captions() -> None:
    op.create_table(
        "captions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("picture_id", sa.String, sa.ForeignKey("pictures.id", ondelete="CASCADE"), nullable=False),
        sa.Column("language", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("expansion", sa.String),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("change", sa.Integer, nullable=False, index=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.UniqueConstraint("picture_id", "language", "digest"),
        sa.Index("ix_captions_language_expansion", "language", "expansion"),
        sqlite_autoincrement=True,
    )


def _vectors() -> None:
    op.create_table(
        "picture_halves",
        sa.Column("content_sha256", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("content_sha256", "fingerprint", name="pk_picture_vectors"),
    )
    caption = sa.ForeignKey("captions.id", name="fk_caption_vectors_caption_id", ondelete="CASCADE")
    op.create_table(
        "caption_halves",
        sa.Column("caption_id", sa.Integer, caption, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("caption_id", "version", "fingerprint", name="pk_caption_vectors"),
    )
    op.create_table(
        "vector_sets",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("language", sa.String),
        sa.Column("version", sa.Integer),
        sa.Column("upto_change", sa.Integer, nullable=False),
        sa.Column("segments", sa.JSON, nullable=False),
        sa.Column("dead", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Index("ix_vector_sets_identity", "kind", "fingerprint", "language", "version"),
        sqlite_autoincrement=True,
    )


def _values() -> None:
    key = sa.ForeignKey("pictures.key", ondelete="CASCADE", onupdate="CASCADE")
    op.create_table(
        "picture_values",
        sa.Column("id", _COUNTED, primary_key=True),
        sa.Column("picture", sa.BigInteger, key, nullable=False, index=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("text", sa.String),
        sa.Column("number", sa.Double),
        sa.Index("ix_picture_values_text", "key", "kind", "text", "picture"),
        sa.Index("ix_picture_values_number", "key", "kind", "number", "picture"),
    )
    op.create_table(
        "record_changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO record_changes (id, last) VALUES (1, 0)")


def _words() -> None:
    """Documents of terms, and what finds a term in them; `model.words` has cut the texts, not the database."""
    key = sa.ForeignKey("pictures.key", ondelete="CASCADE", onupdate="CASCADE")
    op.create_table(
        "picture_words",
        sa.Column("id", _COUNTED, primary_key=True),
        sa.Column("picture", sa.BigInteger, key, nullable=False, index=True),
        sa.Column("expansion", sa.String),
        sa.Column("terms", sa.String, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_GIN)
        return
    if not op.get_bind().scalar(sa.text("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")):
        raise RegistryUnavailable("The SQLite of this Python has no FTS5, which searches by words need.")
    for statement in _FTS5:
        op.execute(statement)
