"""SQLAlchemy classes of the gallery's tables in the registry's database. Creates no tables: a change needs a migration.

The migrations are in `store/migrations/versions`, one chain for the whole database.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from store.clock import now
from store.tables import RegistryRow


class PictureRow(RegistryRow):
    """A picture of the gallery; `change` is its newest entry in the change feed.

    `key` is the change that put its content there: rising, and never used again, also not for a later content.
    `original` says that its bytes were kept as they were sent with it; those of another picture of this content may be.
    `etag` is another one after each change of the record; `record` is the number of that change (`RecordChangesRow`).
    """

    __tablename__ = "pictures"
    __table_args__ = (
        Index("ix_pictures_created_at_id", "created_at", "id"),  # pages of the gallery are in this order
        Index("ix_pictures_collection_key", "collection", "key"),
        Index("ix_pictures_collection_created_at_id", "collection", "created_at", "id"),  # and those of a collection
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    content_sha256: Mapped[str] = mapped_column(index=True)
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now())
    change: Mapped[int]
    key: Mapped[int] = mapped_column(BigInteger, unique=True, index=True, server_default="0")
    collection: Mapped[str] = mapped_column(server_default="default")
    tags: Mapped[list[str]] = mapped_column(JSON, server_default="[]")
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, server_default="{}")
    etag: Mapped[str] = mapped_column(server_default="")
    record: Mapped[int] = mapped_column(BigInteger, index=True, server_default="0")
    original: Mapped[bool] = mapped_column(server_default=false())


class PictureValueRow(RegistryRow):
    """One value of a picture's tags or metadata, for filters and facets; see `index.facts`. `picture` is its key.

    A condition is met by one row, so that both databases compare texts and doubles alike, and by an index.
    """

    __tablename__ = "picture_values"
    __table_args__ = (
        Index("ix_picture_values_text", "key", "kind", "text", "picture"),
        Index("ix_picture_values_number", "key", "kind", "number", "picture"),
    )

    # millions of pictures, of which each change writes new rows; SQLite counts no other type than INTEGER on by itself
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    picture: Mapped[int] = mapped_column(
        ForeignKey("pictures.key", ondelete="CASCADE", onupdate="CASCADE"), type_=BigInteger, index=True
    )
    key: Mapped[str]
    kind: Mapped[str]
    text: Mapped[str | None]
    number: Mapped[float | None] = mapped_column(Double)


class RecordChangesRow(RegistryRow):
    """One row: how many changes of records there were, deletions too, of whichever picture. Selections follow it."""

    __tablename__ = "record_changes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int] = mapped_column(BigInteger)


class CaptionRow(RegistryRow):
    """A caption of a picture; `expansion` is the expansion that added it, NULL when it was added with the picture.

    `digest` (of expansion and text: `index.captions`) makes a caption unique within picture and language. The columns
    themselves cannot: a text may be too long for a PostgreSQL index, and NULL is not equal to NULL. Ids are not reused.
    """

    __tablename__ = "captions"
    __table_args__ = (
        UniqueConstraint("picture_id", "language", "digest"),
        Index("ix_captions_language_expansion", "language", "expansion"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    picture_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    language: Mapped[str]
    text: Mapped[str]
    expansion: Mapped[str | None]
    position: Mapped[int]
    change: Mapped[int] = mapped_column(index=True)
    digest: Mapped[str]


class PictureVectorRow(RegistryRow):
    """The vector of a picture's content, encoded by one image tower; halves, as in segments, and a checksum."""

    __tablename__ = "picture_halves"

    content_sha256: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes]


class DiscardedContentRow(RegistryRow):
    """A content that no picture has any more. Its files stay for some time: a backup of the registry may name them."""

    __tablename__ = "discarded_contents"

    content_sha256: Mapped[str] = mapped_column(primary_key=True)
    discarded_at: Mapped[datetime] = mapped_column(default=now())


class CaptionVectorRow(RegistryRow):
    """The vector of a caption, read through one version by the text tower with this fingerprint."""

    __tablename__ = "caption_halves"

    caption_id: Mapped[int] = mapped_column(ForeignKey("captions.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes]


class GalleryChangeRow(RegistryRow):
    """The change feed that other processes follow: the last change of each picture, also of those deleted lately.

    Numbers increase in the order of the commits, because writers take turns. See `index.states` for deleted ones.
    """

    __tablename__ = "gallery_changes"
    __table_args__ = ({"sqlite_autoincrement": True},)

    change: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str]
    picture_id: Mapped[str] = mapped_column(index=True)


class VectorSetRow(RegistryRow):
    """What is sealed of a vector set, up to `upto_change`. Immutable; the newest row of an identity counts.

    `segments` are in order, each with `id`, `manifest_sha256` and `rows`; `dead` says which of their rows have been
    replaced or deleted since they were sealed (see `index.sets`).
    """

    __tablename__ = "vector_sets"
    __table_args__ = (
        Index("ix_vector_sets_identity", "kind", "fingerprint", "language", "version"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str]
    fingerprint: Mapped[str]
    dimension: Mapped[int]
    language: Mapped[str | None]
    version: Mapped[int | None]
    upto_change: Mapped[int]
    segments: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    dead: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=now())


class PictureWordsRow(RegistryRow):
    """What words find a picture: one row of what was said with it, and one for each expansion that captioned it.

    `terms` is a document as `model.words` makes it, with `length` terms. The migration adds what finds a term in it:
    on SQLite a table `picture_terms` of FTS5, which triggers keep in step, on PostgreSQL an index. `picture` is a key.
    """

    __tablename__ = "picture_words"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    picture: Mapped[int] = mapped_column(
        ForeignKey("pictures.key", ondelete="CASCADE", onupdate="CASCADE"), type_=BigInteger, index=True
    )
    expansion: Mapped[str | None]
    terms: Mapped[str]
    length: Mapped[int]
