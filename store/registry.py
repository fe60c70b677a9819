"""The registry as one object: opens the database, migrates it and initialises it for one base.

A new registry gets all tables as the modules of `store` declare them. Whoever changes one adds a step in
`migrations/versions/` that changes existing registries in the same way; a test compares the hash of the tables that the
newest step notes.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Text, cast, delete, false, func, inspect, select, text

from store.audit import AuditRow
from store.bases import Bases, Encodings, add_base, find_base
from store.database import Database, RegistryPart, encode_json
from store.errors import BaseMismatch, RegistryOutdated, RegistryUnavailable
from store.expansions import Expansions
from store.keys import BrowserSessions
from store.leases import Duties
from store.reach import Retention
from store.releases import Release, Releases
from store.speakers import CaptionProposals, TermsHistory, UnknownWords, WaitingRows, WordAnswers
from store.tables import SERVING, AliasRow, BaseRow, DutyRow, RegistryRow, ReleaseRow, VersionRow
from store.versions import BUILT_IN_LANGUAGE, FIRST, Versions
from store.withdrawals import Withdrawals

_MIGRATIONS = Path(__file__).parent / "migrations"
_STEPS = sorted(path.name[1:5] for path in _MIGRATIONS.glob("versions/r*.py"))  # r0029_first.py is the revision 0029
OLDEST, NEWEST = _STEPS[0], _STEPS[-1]
_FIRST_RELEASE = "0001"  # the tables of 0.1.0

# What finds a term in `picture_words`: SQLAlchemy has no class for it.
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
_GIN = ("CREATE INDEX picture_terms ON picture_words USING gin (array_to_tsvector(string_to_array(terms, ' ')))",)
_ROUNDED = 1e-6  # seconds: the database has more digits of a time than an answer
_log = logging.getLogger(__name__)


class Registry(Database):
    """What exists and what is served, and the database of the gallery."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.versions = Versions(self)
        self.releases = Releases(self)
        self.expansions = Expansions(self)
        self.answers, self.unknown_words, self.waiting = WordAnswers(self), UnknownWords(self), WaitingRows(self)
        self.terms, self.withdrawals = TermsHistory(self), Withdrawals(self)
        self.proposals = CaptionProposals(self)
        self.bases = Bases(self)
        self.encodings = Encodings(self)
        self.duties = Duties(self)
        self.retention = Retention(self)
        self.audit, self.sessions = Audit(self), BrowserSessions(self)

    def probe(self) -> None:
        """Test whether writes are accepted, and write nothing. Raises RegistryUnavailable, StorageFull."""
        with self.begin() as session:
            session.execute(delete(DutyRow).where(false()))

    def rewrite_word_index(self) -> None:
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
            query = query.where(row.at >= since.timestamp() - _ROUNDED)
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


def upgrade(connection: Connection) -> str | None:
    """Make the tables, or apply the missing steps, in the connection's transaction; return the revision before.

    Raises what `read_revision` raises.
    """
    before = read_revision(connection)
    if before is None:
        _create_tables(connection)
    if before in (None, NEWEST):
        return before
    from alembic import command  # a quarter of a second, and most starts find nothing to do
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before


def read_revision(connection: Connection) -> str | None:
    """Return the last step that was applied; None without tables.

    Raises RegistryOutdated before all steps, and RegistryUnavailable after a step of a newer release.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    applied: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if applied is not None and applied < OLDEST:
        exported = "save its content with `pictoglot export` of the build that wrote it, and import that into"
        again = "import its pictures and teach its datasets again in"  # 0.1.0 has no `pictoglot export`
        raise RegistryOutdated(
            f"An earlier release wrote this registry (r{applied}), and this one cannot migrate it: "
            f"{again if applied == _FIRST_RELEASE else exported} another PICTOGLOT_HOME."
        )
    if applied is not None and applied > NEWEST:
        raise RegistryUnavailable(
            f"A newer release of pictoglot migrated this registry (to r{applied}; this one knows r{NEWEST}): start "
            "that release, or restore a backup of before."
        )
    return applied


def _create_tables(connection: Connection) -> None:
    postgresql = connection.dialect.name == "postgresql"
    if not postgresql and not connection.scalar(text("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")):
        raise RegistryUnavailable("The SQLite of this Python has no FTS5, which searches by words need.")
    RegistryRow.metadata.create_all(connection, checkfirst=False)
    for statement in _GIN if postgresql else _FTS5:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("INSERT INTO record_changes (id, last) VALUES (1, 0)")
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST})
