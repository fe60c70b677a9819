"""The registry as one object: opens the database, migrates it and initialises it for one base."""

from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from model.errors import BaseMismatch
from model.registry.database import Database
from model.registry.expansions import Expansions
from model.registry.migrations import upgrade
from model.registry.releases import Release, Releases
from model.registry.tables import SERVING, AliasRow, ReleaseRow, VersionRow
from model.registry.versions import BUILT_IN_LANGUAGE, FIRST, Versions


class Registry:
    """What exists and what is served; safe with many threads and with other processes.

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
        """For reading only; writers use `begin`."""
        return self._database.engine

    def ping(self) -> None:
        """Raises RegistryUnavailable when the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def initialise(self, base_fingerprint: str, report: dict[str, Any]) -> Release:
        """Create version 0 and release 1 if they do not exist; returns the serving release. Raises BaseMismatch.

        A version's rows fit only one text tower: a registry belongs to the base with this `base_fingerprint`.
        """
        with self.begin() as session:
            first = session.get(VersionRow, FIRST)
            if first is None:
                _initialise(session, base_fingerprint, report)
            elif first.manifest_sha256 != base_fingerprint:
                raise BaseMismatch(
                    "This registry was created for another base model: restore PICTOGLOT_BASE or use another HOME."
                )
        return self.releases.serving()


def open_registry(url: str, *, migrate: bool = True) -> Registry:
    """Connect to `url` (SQLite or PostgreSQL) and, with `migrate`, update its tables. Raises RegistryUnavailable."""
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
        number=FIRST, language=BUILT_IN_LANGUAGE, manifest_sha256=fingerprint, rows=0, bytes=0, report=report
    )
    release = ReleaseRow(
        number=1,
        shared=FIRST,
        languages={BUILT_IN_LANGUAGE: FIRST},
        actor="system",
        reason="",
        change={"kind": "initial"},
    )
    for row in (version, release, AliasRow(name=SERVING, release=1)):
        session.add(row)
        session.flush()
