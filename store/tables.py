"""The registry's tables, declared for SQLAlchemy. A change here needs a migration (`migrations/versions`).

The gallery's tables are in `index.tables`, that of API keys in `service.keys`: one database, one chain of migrations.
"""

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, MetaData, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.clock import Instant, now

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
SERVING = "serving"
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"
_ACTIVE = text("state IN ('queued', 'running')")


class RegistryRow(DeclarativeBase):
    """SQLAlchemy's declarative base; names of constraints are fixed so that a migration can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, Any]: JSON, dict[str, int]: JSON}  # noqa: RUF012

    def told_as(self, kind: type[T], **own: Any) -> T:
        """A dataclass with the values of the columns that are named as its fields; other fields are its `own`."""
        same = (field.name for field in fields(kind) if field.name not in own)
        return kind(**{name: getattr(self, name) for name in same}, **own)


class VersionRow(RegistryRow):
    """One immutable step of the model. One without a parent is a base; see `BaseRow`.

    `datasets` are the expansions whose datasets its language was taught from, oldest first. `pruned_at` is when it left
    the reach of every release, `pruned_release` the one that served then. `folder` is NULL when its files are gone.
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
    created_at: Mapped[datetime] = mapped_column(default=now())
    pruned_at: Mapped[datetime | None]
    pruned_release: Mapped[int | None]


class BaseRow(RegistryRow):
    """A base that versions are made for, as the version that it is itself: the root of their lineage.

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
    """What computes the vectors of this data root from here on; `reason` says why not what was wanted, if so."""

    __tablename__ = "encodings"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    backend: Mapped[str]
    precision: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now())


class DutyRow(RegistryRow):
    """Which process does what one process does for all, and until when it may."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    expires: Mapped[datetime]


class CalibrationRow(RegistryRow):
    """How the chances of hits are told of one language as one version reads it; replaced when it is measured again.

    `measured` is JSON, `sample` are vectors of pictures, both with a checksum: see `store.calibrations`.
    """

    __tablename__ = "calibrations"

    version: Mapped[int] = mapped_column(ForeignKey("versions.number"), primary_key=True, autoincrement=False)
    language: Mapped[str] = mapped_column(primary_key=True)
    measured: Mapped[bytes]
    sample: Mapped[bytes] = mapped_column(deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=now())


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
    created_at: Mapped[datetime] = mapped_column(default=now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # progress
    phase: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    eta_seconds: Mapped[float | None]
    moved_at: Mapped[datetime | None]  # when its attempt last told how far it is
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
    """An API key: the public id, and a SHA-256 that only its secret gives (`service.keys`).

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
