"""Versions: immutable, numbered steps of the model, and their lineage. Reads and writes no files."""

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

FIRST = 0  # the number of the version that is the base itself
BUILT_IN_LANGUAGE = "en"


@dataclass(frozen=True)
class Version:
    """One version; number 0 has no parent, expansion or folder, and its `manifest_sha256` is the base's fingerprint."""

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
    """Every version ever made; none is ever changed, and a rollback deletes none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, number: int) -> Version:
        """Raises VersionNotFound."""
        with self._database.read() as session:
            return _version(find(session, number))

    def list(self, limit: int | None = None, before: int | None = None) -> Sequence[Version]:
        """Newest first; `before` is the last number of the previous page."""
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
        """The version, its parent, and so on down to version 0. Raises VersionNotFound."""
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
        """Register what `expansion` wrote for `language`; a repeated call returns the same version.

        Raises LeaseLost, VersionNotFound.
        """
        with self._database.begin() as session:
            maker = held(session, expansion, fence)
            earlier = session.scalar(
                select(VersionRow).where(VersionRow.expansion == expansion, VersionRow.language == language)
            )
            if earlier is not None:
                return _version(earlier)
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
            maker.version = row.number
            session.flush()
            session.refresh(row)  # as the database stored it: a NaN in the report is null there
            return _version(row)


def find(session: Session, number: int) -> VersionRow:
    """Raises VersionNotFound."""
    row = session.get(VersionRow, number)
    if row is None:
        raise VersionNotFound(f"There is no version {number}.")
    return row


def lineage(session: Session, number: int) -> Sequence[VersionRow]:
    """The rows from `number` down to version 0: a parent always has a smaller number. Raises VersionNotFound."""
    chain = select(VersionRow.number, VersionRow.parent).where(VersionRow.number == number).cte("chain", recursive=True)
    parents = aliased(VersionRow)
    chain = chain.union_all(select(parents.number, parents.parent).where(parents.number == chain.c.parent))
    query = select(VersionRow).where(VersionRow.number.in_(select(chain.c.number))).order_by(VersionRow.number.desc())
    rows = session.scalars(query).all()
    return rows or [find(session, number)]


def _version(row: VersionRow) -> Version:
    return Version(**{name: getattr(row, name) for name in Version.__dataclass_fields__})
