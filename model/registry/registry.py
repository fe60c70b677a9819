"""The registry as one object: opened, migrated, initialised for one base, and asked for its parts."""

from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from model.errors import BaseMismatch
from model.registry.database import Database
from model.registry.expansions import Expansions
from model.registry.migrations import upgrade
from model.registry.releases import Release, Releases
from model.registry.tables import SERVING, AliasRow, ReleaseRow, VersionRow
from model.registry.versions import BASE, BASE_LANGUAGE, Versions


class Registry:
    """The truth about what exists and what is served; safe in many threads and beside other processes.

    `begin` and `read` are the database's transactions, for the tables that other packages keep in it.
    """

    def __init__(self, database: Database) -> None:
        self.begin, self.read = database.begin, database.read
        self._database = database
        self.versions = Versions(database)
        self.releases = Releases(database)
        self.expansions = Expansions(database)

    @property
    def engine(self) -> Engine:
        """Only reads; whoever writes takes `begin`."""
        return self._database.engine

    def ping(self) -> None:
        """RegistryUnavailable when the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def initialise(self, base_fingerprint: str, report: dict[str, Any]) -> Release:
        """Make version 0 and release 1 where they are not yet; the serving release. BaseMismatch.

        A version's rows fit one text tower only: a registry belongs to the base with this `base_fingerprint`.
        """
        with self.begin() as session:
            base = session.get(VersionRow, BASE)
            if base is None:
                _initialise(session, base_fingerprint, report)
            elif base.manifest_sha256 != base_fingerprint:
                raise BaseMismatch(
                    "This registry was made for another base: set PICTOGLOT_BASE back or take another HOME."
                )
        return self.releases.serving()


def open_registry(url: str, *, migrate: bool = True) -> Registry:
    """Connect to `url` (SQLite or PostgreSQL) and, with `migrate`, bring its tables up to date; RegistryUnavailable."""
    database = Database(url)
    registry = Registry(database)
    try:
        if migrate:
            with database.begin() as session:
                upgrade(session.connection())
        else:
            registry.ping()
    except BaseException:
        database.close()
        raise
    return registry


def _initialise(session: Session, fingerprint: str, report: dict[str, Any]) -> None:
    version = VersionRow(
        number=BASE, language=BASE_LANGUAGE, manifest_sha256=fingerprint, rows=0, bytes=0, report=report
    )
    release = ReleaseRow(
        number=1,
        shared=BASE,
        languages={BASE_LANGUAGE: BASE},
        actor="system",
        reason="",
        change={"kind": "initial"},
    )
    for row in (version, release, AliasRow(name=SERVING, release=1)):
        session.add(row)
        session.flush()
