"""All tables but those of `audit`, `keys`, `reach`, `speakers` and `withdrawals`. A change needs a migration."""

import builtins
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.clock import Instant, now
from store.logs import find_parent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
SERVING = "serving"
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
_ACTIVE = text("state IN ('queued', 'running')")
# Millions of pictures, of which each change writes new rows; SQLite counts no other type than INTEGER on by itself
AutoKey = Annotated[int, mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)]
PictureKey = Annotated[
    int,
    mapped_column(ForeignKey("pictures.key", ondelete="CASCADE", onupdate="CASCADE"), type_=BigInteger, index=True),
]


class RegistryRow(DeclarativeBase):
    """SQLAlchemy's declarative base; constraints have fixed names, to which a migration can refer."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, Any]: JSON, dict[str, int]: JSON}  # noqa: RUF012

    def convert_to(self, kind: type[T], **own: Any) -> T:
        """Return a dataclass with the values of the columns of the same names, and its `own` fields."""
        same = (field.name for field in fields(kind) if field.name not in own)
        return kind(**{name: getattr(self, name) for name in same}, **own)


class VersionRow(RegistryRow):
    """One immutable step of the model. One without a parent is a base; see `BaseRow`.

    `datasets` are the expansions whose datasets its language was taught from, oldest first. `pruned_at` is when it left
    the reach of every release, `pruned_release` the one that served then. `folder` is NULL when its files are gone.
    `match` alone changes: the curves of the chances of hits, as fitted last; JSON and its checksum. `terms` is the
    number of those that the language had.
    """

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("expansion", "language"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(ForeignKey("versions.number"))
    language: Mapped[str] = mapped_column(index=True)
    expansion: Mapped[str | None] = mapped_column(ForeignKey("expansions.id"))
    datasets: Mapped[list[str]] = mapped_column(JSON, default=list)
    folder: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    rows: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    report: Mapped[dict[str, Any]]
    match: Mapped[builtins.bytes | None] = mapped_column(deferred=True)
    terms: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now())
    pruned_at: Mapped[datetime | None]
    pruned_release: Mapped[int | None]


class BaseRow(RegistryRow):
    """A base. It is also a version, without a parent: the root of all versions made for it.

    `name` is as in `PICTOGLOT_BASE`.
    """

    __tablename__ = "bases"

    number: Mapped[int] = mapped_column(ForeignKey("versions.number"), primary_key=True, autoincrement=False)
    name: Mapped[str]
    image_fingerprint: Mapped[str]
    text_fingerprint: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())


class ReleaseRow(RegistryRow):
    """One immutable routing table; `expansion` and `version` identify the promotion that made it, if one did."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("expansion", "version"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shared: Mapped[int] = mapped_column(ForeignKey("versions.number"))
    languages: Mapped[dict[str, int]]
    created_at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]
    reason: Mapped[str]
    change: Mapped[dict[str, Any]]
    expansion: Mapped[str | None] = mapped_column(ForeignKey("expansions.id"))
    version: Mapped[int | None]


class AliasRow(RegistryRow):
    """The one name that is updated: `serving`."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(ForeignKey("releases.number"))


class EncodingRow(RegistryRow):
    """What computes the vectors of this data root from `release` on; `reason` says why not what was wanted, if so."""

    __tablename__ = "encodings"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    release: Mapped[int]
    backend: Mapped[str]
    precision: Mapped[str]
    reason: Mapped[str]


class DutyRow(RegistryRow):
    """Which process does what one process does for all, and until when it may."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    expires: Mapped[datetime]


class ExpansionRow(RegistryRow):
    """One expansion: the durable record and, until it is finished, its entry in the queue."""

    __tablename__ = "expansions"
    __table_args__ = (
        # at most one queued or running expansion per language, also when submissions race
        Index("uq_expansions_active", "language", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
        Index("ix_expansions_created_at_id", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    language: Mapped[str]
    state: Mapped[str] = mapped_column(default=QUEUED)
    settings: Mapped[dict[str, Any]]
    dataset_path: Mapped[str | None]
    dataset_sha256: Mapped[str | None]
    dataset_bytes: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str]
    terms: Mapped[int | None]
    trace: Mapped[str | None] = mapped_column(default=find_parent)  # the header `traceparent` of who queued it
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # progress
    phase: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    eta_seconds: Mapped[float | None]
    moved_at: Mapped[datetime | None]  # when its attempt last reported progress
    # outcome
    version: Mapped[int | None]
    release: Mapped[int | None]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    # attempts and the lease
    attempt: Mapped[int] = mapped_column(default=0)
    stalled: Mapped[int] = mapped_column(default=0)  # attempts since the last progress that ended by themselves
    vanished: Mapped[int] = mapped_column(default=0)  # attempts since then that nobody gave back: their worker died too
    cause: Mapped[str | None]  # why the last attempt ended
    fence: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires: Mapped[datetime | None]  # of a queued one: when its last lease was given back


class IdempotencyRow(RegistryRow):
    """What an actor's `Idempotency-Key` was answered with (an expansion, or an answer as JSON), and for which body."""

    __tablename__ = "idempotency_keys"

    actor: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    expansion: Mapped[str | None] = mapped_column(ForeignKey("expansions.id"))
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=now())


class KeyRow(RegistryRow):
    """An API key: the public id, and a SHA-256 that only its secret gives (`store.keys`).

    `collections` are those that it is bound to, NULL for none. A key that was revoked stays.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    scope: Mapped[str]
    label: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    collections: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


class PictureRow(RegistryRow):
    """A picture of the gallery; `change` is its newest entry in the change feed.

    `key` is the change that put its content there: rising, and never used again, also not for a later content.
    `original` says that its bytes were kept as they were sent with it; those of another picture of this content may be.
    `etag` is another one after each change of the record; `record` is the number of that change (`RecordChangesRow`).
    Width and height are those of the upright photograph. `shown_at` is when it was taken, else when it came.
    """

    __tablename__ = "pictures"
    __table_args__ = (
        Index("ix_pictures_created_at_id", "created_at", "id"),  # pages of the gallery are in this order
        Index("ix_pictures_collection_key", "collection", "key"),
        Index("ix_pictures_collection_created_at_id", "collection", "created_at", "id"),  # and those of a collection
        Index("ix_pictures_shown_at_id", "shown_at", "id"),  # or in this one
        Index("ix_pictures_collection_shown_at_id", "collection", "shown_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    content_sha256: Mapped[str] = mapped_column(index=True)
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now())
    shown_at: Mapped[datetime] = mapped_column(default=now(), server_default="0")
    change: Mapped[int]
    key: Mapped[int] = mapped_column(BigInteger, unique=True, index=True, server_default="0")
    collection: Mapped[str] = mapped_column(server_default="default")
    tags: Mapped[list[str]] = mapped_column(JSON, server_default="[]")
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, server_default="{}")
    etag: Mapped[str] = mapped_column(server_default="")
    record_change: Mapped[int] = mapped_column("record", BigInteger, index=True, server_default="0")
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

    id: Mapped[AutoKey]
    picture: Mapped[PictureKey]
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

    Numbers increase in the order of the commits, because writers take turns. See `index.set_states` for deleted ones.
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

    `terms` is a document as `model.text` makes it, with `length` terms. The migration adds what finds a term in it:
    on SQLite a table `picture_terms` of FTS5, which triggers keep in step, on PostgreSQL an index. `picture` is a key.
    """

    __tablename__ = "picture_words"

    id: Mapped[AutoKey]
    picture: Mapped[PictureKey]
    expansion: Mapped[str | None]
    terms: Mapped[str]
    length: Mapped[int]
