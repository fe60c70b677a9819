"""Versions: immutable, numbered steps of the model, and who descends from whom. Writes no files and opens none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from model.errors import VersionNotFound
from model.registry.database import Database
from model.registry.leases import held
from model.registry.tables import VersionRow

BASE = 0  # the version that is the base itself
BASE_LANGUAGE = "en"


@dataclass(frozen=True)
class Version:
    """One version; of the base `parent`, `expansion` and `folder` are None and `manifest_sha256` is its fingerprint."""

    number: int
    parent: int | None
    language: str
    expansion: str | None
    folder: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: dict[str, Any]
    created_at: datetime


class Versions:
    """Every version ever made; none is changed, and a rollback removes none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, number: int) -> Version:
        """VersionNotFound."""
        with self._database.read() as session:
            return _version(find(session, number))

    def list(self, limit: int | None = None, before: int | None = None) -> Sequence[Version]:
        """Newest first; `before` is the last number of the page before."""
        query = select(VersionRow).order_by(VersionRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(VersionRow.number < before)
        with self._database.read() as session:
            return [_version(row) for row in session.scalars(query)]

    def of(self, language: str) -> Sequence[Version]:
        """The versions of one language, newest first, served or not."""
        query = select(VersionRow).where(VersionRow.language == language).order_by(VersionRow.number.desc())
        with self._database.read() as session:
            return [_version(row) for row in session.scalars(query)]

    def lineage(self, number: int) -> Sequence[Version]:
        """The version, its parent, and so on to the base; VersionNotFound."""
        with self._database.read() as session:
            return [_version(row) for row in lineage(session, number)]

    def add(
        self,
        *,
        expansion: str,
        parent: int,
        language: str,
        folder: str,
        manifest_sha256: str,
        rows: int,
        bytes: int,
        report: dict[str, Any],
        fence: int,
    ) -> Version:
        """Register what `expansion` wrote for `language`; again gives the same version. LeaseLost, VersionNotFound."""
        with self._database.begin() as session:
            holder = held(session, expansion, fence)
            known = session.scalar(
                select(VersionRow).where(VersionRow.expansion == expansion, VersionRow.language == language)
            )
            if known is not None:
                return _version(known)
            row = VersionRow(
                number=(session.scalar(select(func.max(VersionRow.number))) or 0) + 1,
                parent=find(session, parent).number,
                language=language,
                expansion=expansion,
                folder=folder,
                manifest_sha256=manifest_sha256,
                rows=rows,
                bytes=bytes,
                report=report,
            )
            session.add(row)
            holder.version = row.number
            session.flush()
            session.refresh(row)  # as the database took it: a report's NaN is null there
            return _version(row)


def find(session: Session, number: int) -> VersionRow:
    """VersionNotFound."""
    row = session.get(VersionRow, number)
    if row is None:
        raise VersionNotFound(f"There is no version {number}.")
    return row


def lineage(session: Session, number: int) -> Sequence[VersionRow]:
    """The rows from `number` down to the base: a parent's number is always the smaller one. VersionNotFound."""
    chain = select(VersionRow.number, VersionRow.parent).where(VersionRow.number == number).cte("chain", recursive=True)
    parents = aliased(VersionRow)
    chain = chain.union_all(select(parents.number, parents.parent).where(parents.number == chain.c.parent))
    query = select(VersionRow).where(VersionRow.number.in_(select(chain.c.number))).order_by(VersionRow.number.desc())
    rows = session.scalars(query).all()
    return rows or [find(session, number)]


def _version(row: VersionRow) -> Version:
    return Version(
        number=row.number,
        parent=row.parent,
        language=row.language,
        expansion=row.expansion,
        folder=row.folder,
        manifest_sha256=row.manifest_sha256,
        rows=row.rows,
        bytes=row.bytes,
        report=row.report,
        created_at=row.created_at,
    )
