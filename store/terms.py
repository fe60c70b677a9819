"""Terms of languages: whose a language is, and what they allow. Each change is a row; nothing of it is deleted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from store.audit import record_act
from store.clock import now
from store.database import RegistryPart
from store.errors import InsufficientScope
from store.tables import AutoKey, RegistryRow


class TermsRow(RegistryRow):
    """Terms of a language, from `set_at` until the next row of it; `terms` is empty where they were taken away.

    A dataset and a version name the row that held when they were made. `actor` is the key that set them.
    """

    __tablename__ = "language_terms"

    number: Mapped[AutoKey]
    language: Mapped[str] = mapped_column(index=True)
    terms: Mapped[dict[str, Any]]
    set_at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]


class LanguageTerms(RegistryPart):
    """The terms of all languages of a registry."""

    def set(self, language: str, terms: Mapping[str, Any], actor: str, *, may_change: bool) -> TermsRow:
        """Set the terms of a language; those that it has already are not written again.

        Raises InsufficientScope where others stand, unless the actor `may_change` them.
        """
        with self._database.begin() as session:
            return set_terms(session, language, terms, actor, may_change=may_change)

    def require_right(self, language: str, terms: Mapping[str, Any], *, may_change: bool) -> None:
        """Raise InsufficientScope as `set` would now."""
        with self._database.read() as session:
            _refuse_change(_find_row(session, language), terms, may_change)

    def list_current(self) -> dict[str, TermsRow]:
        """List the terms that hold now, by language, those that were taken away too."""
        newest = select(func.max(TermsRow.number)).group_by(TermsRow.language)
        with self._database.read() as session:
            rows = session.scalars(select(TermsRow).where(TermsRow.number.in_(newest)))
            return {row.language: row for row in rows}

    def get(self, number: int | None) -> TermsRow | None:
        """Return the terms with this number; None without one."""
        with self._database.read() as session:
            return None if number is None else session.get(TermsRow, number)


def set_terms(session: Session, language: str, terms: Mapping[str, Any], actor: str, *, may_change: bool) -> TermsRow:
    """Set the terms of a language in the transaction of `session`. Raises InsufficientScope."""
    row = _find_row(session, language)
    _refuse_change(row, terms, may_change)
    if row is None or row.terms != terms:
        row = TermsRow(language=language, terms=dict(terms), actor=actor)
        session.add(row)
        session.flush()
        record_act(session, {f"terms of {language}": "set"})
    return row


def find_number(session: Session, language: str) -> int | None:
    """Return the number of the terms that a language has now; None if it never had any."""
    row = _find_row(session, language)
    return None if row is None else row.number


def _refuse_change(row: TermsRow | None, terms: Mapping[str, Any], may_change: bool) -> None:
    if not may_change and row is not None and row.terms and row.terms != terms:
        raise InsufficientScope("the terms of this language stand; only an administrator changes them")


def _find_row(session: Session, language: str) -> TermsRow | None:
    query = select(TermsRow).where(TermsRow.language == language).order_by(TermsRow.number.desc())
    return session.scalars(query.limit(1)).first()
