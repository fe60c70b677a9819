"""The registry as one object: opens the database, migrates it and initialises it for one base."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Text, cast, delete, false, func, select, text

from store.audit import AuditRow
from store.bases import Bases, Encodings, add_base, find_base
from store.database import Database, RegistryPart, encode_json
from store.errors import BaseMismatch
from store.expansions import Expansions
from store.keys import Sessions
from store.leases import Duties
from store.migrations import NEWEST, read_revision, upgrade
from store.reach import Retention
from store.releases import Release, Releases
from store.speakers import CaptionProposals, LanguageTerms, UnknownWords, WaitingRows, WordAnswers
from store.tables import SERVING, AliasRow, BaseRow, DutyRow, ReleaseRow, VersionRow
from store.versions import BUILT_IN_LANGUAGE, FIRST, Versions
from store.withdrawals import Withdrawals

_ROUNDED = timedelta(microseconds=1)  # the database has more digits of a time than an answer
_log = logging.getLogger(__name__)


class Registry(Database):
    """What exists and what is served, and the database of the gallery."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.versions = Versions(self)
        self.releases = Releases(self)
        self.expansions = Expansions(self)
        self.answers, self.unknown_words, self.waiting = WordAnswers(self), UnknownWords(self), WaitingRows(self)
        self.terms, self.withdrawals = LanguageTerms(self), Withdrawals(self)
        self.proposals = CaptionProposals(self)
        self.bases = Bases(self)
        self.encodings = Encodings(self)
        self.duties = Duties(self)
        self.retention = Retention(self)
        self.audit, self.sessions = Audit(self), Sessions(self)

    def probe(self) -> None:
        """Test whether writes are accepted, and write nothing. Raises RegistryUnavailable, StorageFull."""
        with self.begin() as session:
            session.execute(delete(DutyRow).where(false()))

    def forget_words(self) -> None:
        """Write SQLite's index of words anew, where deleted words stay until then. Raises RegistryUnavailable."""
        if self.is_local:
            with self.begin() as session:
                session.execute(text("INSERT INTO picture_terms (picture_terms) VALUES ('optimize')"))

    def describe_migration(self) -> str:
        """Return what the next start will do to tables of an earlier release; empty when it will do nothing."""
        with self.read() as session:
            before = read_revision(session.connection())
        return f"the next start migrates its tables from r{before} to r{NEWEST}" if before and before < NEWEST else ""

    def initialise(self, text_fingerprint: str, name: str = "", image_fingerprint: str = "") -> Release:
        """Create version 0, which is this base, and release 1, unless they exist; return the serving release.

        The `name` is noted, by which the base was found last: its checkpoint may have moved. Raises BaseMismatch for a
        base that has never served here, by both towers or, without `image_fingerprint`, by the text tower alone.
        """
        languages, change = {BUILT_IN_LANGUAGE: FIRST}, {"kind": "initial"}
        release = ReleaseRow(number=1, shared=FIRST, languages=languages, actor="system", reason="", change=change)
        with self.begin() as session:
            if session.get(VersionRow, FIRST) is None:
                add_base(session, FIRST, name, image_fingerprint, text_fingerprint)
                for row in (release, AliasRow(name=SERVING, release=1)):
                    session.add(row)
                    session.flush()
            known = select(BaseRow.image_fingerprint).where(BaseRow.text_fingerprint == text_fingerprint)
            images = set(session.scalars(known))
            if name and (base := find_base(session, image_fingerprint, text_fingerprint)) is not None:
                base.name = name
            if not images or (image_fingerprint and image_fingerprint not in images):
                made_for = session.scalars(select(BaseRow.name).order_by(BaseRow.number.desc()).limit(1)).one()
                raise BaseMismatch(
                    f"This registry was made for another base ({made_for.partition('@')[0]}): restore PICTOGLOT_BASE, "
                    "use another PICTOGLOT_HOME, or have all made anew for this base with `pictoglot base move`."
                )
        return self.releases.get_serving()


class Audit(RegistryPart):
    """The log of a registry. Nothing removes an entry."""

    def list(
        self,
        limit: int,
        before: int | None = None,
        *,
        actor: str | None = None,
        act: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[AuditRow]:
        """List entries, newest first, older than the number `before`; of one actor, act or target, and of a time.

        Raises RegistryUnavailable, also where that takes too long.
        """
        row = AuditRow
        query = select(row).order_by(row.number.desc()).limit(limit)
        wanted = {row.actor: actor, row.act: act}
        query = query.where(*(column == value for column, value in wanted.items() if value is not None))
        if before is not None:
            query = query.where(row.number < before)
        if target is not None:  # JSON has the name between quotes, and perhaps as the value of another
            find = func.instr if self._database.is_local else func.strpos  # LIKE takes `p1` for `P1` in SQLite
            query = query.where(find(cast(row.targets, Text), encode_json(target)) > 0)
        if since is not None:
            query = query.where(row.at >= since - _ROUNDED)
        if until is not None:
            query = query.where(row.at < until)
        with self._database.read_in_time() as session:
            return session.scalars(query).all()


def open_registry(url: str, *, migrate: bool = True) -> Registry:
    """Open the registry at `url` (SQLite or PostgreSQL) and, with `migrate`, update its tables.

    Raises RegistryUnavailable, and RegistryOutdated for tables of an earlier release that cannot be updated.
    """
    registry = Registry(url)
    try:
        if migrate:
            with registry.begin() as session:
                before = upgrade(session.connection())
            if before not in (None, NEWEST):
                _log.warning("the registry's tables were migrated from r%s to r%s", before, NEWEST)
        with registry.read() as session:
            read_revision(session.connection())
            registry.is_steady(session)
    except BaseException:
        registry.close()
        raise
    return registry
