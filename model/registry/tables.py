"""The tables of the registry and of the gallery, as SQLAlchemy sees them. Changes here need a migration beside them."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, MetaData, UniqueConstraint, text
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from model.registry.clock import Instant, now

SERVING = "serving"
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
_ACTIVE = text("state IN ('queued', 'running')")


class Base(DeclarativeBase):
    """Common metadata; names of constraints are fixed so that a migration can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, Any]: JSON, dict[str, int]: JSON}  # noqa: RUF012


# --- versions and releases --------------------------------------------------------------------------------------------


class VersionRow(Base):
    """One immutable step of the model. The base is version 0; its `manifest_sha256` is its text tower's fingerprint."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("expansion", "language"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(ForeignKey("versions.number"))
    language: Mapped[str] = mapped_column(index=True)
    expansion: Mapped[str | None] = mapped_column(ForeignKey("expansions.id"))
    folder: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    rows: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now())


class ReleaseRow(Base):
    """One immutable routing table; `expansion` and `version` say which promotion made it."""

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


class AliasRow(Base):
    """The one name that moves: `serving`."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(ForeignKey("releases.number"))


# --- expansions -------------------------------------------------------------------------------------------------------


class ExpansionRow(Base):
    """One act of teaching: the durable record and, until it is finished, the place in the queue."""

    __tablename__ = "expansions"
    __table_args__ = (
        # at most one queued or running expansion a language, whoever races
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
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # how far it is
    phase: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    eta_seconds: Mapped[float | None]
    # what came of it
    version: Mapped[int | None]
    release: Mapped[int | None]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    # who works on it
    attempt: Mapped[int] = mapped_column(default=0)
    stalled: Mapped[int] = mapped_column(default=0)  # attempts since the last progress
    cause: Mapped[str | None]  # why the last attempt ended
    fence: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires: Mapped[datetime | None]  # of a queued one: when its last lease was given back


class IdempotencyRow(Base):
    """Which expansion answered an actor's `Idempotency-Key`, and for which body."""

    __tablename__ = "idempotency_keys"

    actor: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    expansion: Mapped[str] = mapped_column(ForeignKey("expansions.id"))
    created_at: Mapped[datetime] = mapped_column(default=now())


class KeyRow(Base):
    """An API key: the public id, and the SHA-256 of the secret."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    scope: Mapped[str]
    label: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


# --- gallery: written by index/gallery.py -----------------------------------------------------------------------------


def _caption_digest(context: DefaultExecutionContext) -> str:
    values: dict[str, Any] = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return hashlib.sha256(f"{values.get('expansion') or ''}\0{values['text']}".encode()).hexdigest()


class PictureRow(Base):
    """A picture that exists; `change` is the newest entry of the feed about it."""

    __tablename__ = "pictures"

    id: Mapped[str] = mapped_column(primary_key=True)
    content_sha256: Mapped[str] = mapped_column(index=True)
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now())
    change: Mapped[int]


class CaptionRow(Base):
    """A caption of a picture; `expansion` is the one that brought it, NULL when it came with the picture.

    `digest` (filled by itself from expansion and text) makes it unique within picture and language: a long text is too
    long for an index of PostgreSQL, and NULL equals nothing. Ids are never used again.
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
    digest: Mapped[str] = mapped_column(default=_caption_digest)


class PictureVectorRow(Base):
    """The vector of a picture's content under one image tower."""

    __tablename__ = "picture_vectors"

    content_sha256: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes]


class CaptionVectorRow(Base):
    """The vector of a caption under one version."""

    __tablename__ = "caption_vectors"

    caption_id: Mapped[int] = mapped_column(ForeignKey("captions.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    vector: Mapped[bytes]


class GalleryChangeRow(Base):
    """The feed that other processes follow; numbers rise in the order of the commits, since writers take turns."""

    __tablename__ = "gallery_changes"
    __table_args__ = ({"sqlite_autoincrement": True},)

    change: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str]
    picture_id: Mapped[str]


class GenerationRow(Base):
    """An immutable index on disk: of pictures, or of the captions of one language under one version."""

    __tablename__ = "generations"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    language: Mapped[str | None]
    version: Mapped[int | None]
    fingerprint: Mapped[str]
    folder: Mapped[str]
    manifest_sha256: Mapped[str]
    count: Mapped[int]
    upto_change: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now())
