"""The registry as one object: opens the database, migrates it and initialises it for one base."""

from typing import Any

from sqlalchemy import text

from model.errors import BaseMismatch
from model.registry.database import Database
from model.registry.encodings import Encodings
from model.registry.expansions import Expansions
from model.registry.migrations import upgrade
from model.registry.releases import Release, Releases
from model.registry.tables import SERVING, AliasRow, ReleaseRow, VersionRow
from model.registry.versions import BUILT_IN_LANGUAGE, FIRST, Versions


class Registry(Database):
    """What exists and what is served; other packages keep tables of their own in the same database."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.versions = Versions(self)
        self.releases = Releases(self)
        self.expansions = Expansions(self)
        self.encodings = Encodings(self)

    def ping(self) -> None:
        """Raises RegistryUnavailable when the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def initialise(self, base_fingerprint: str, report: dict[str, Any]) -> Release:
        """Create version 0 and release 1 if they do not exist; returns the serving release. Raises BaseMismatch.

        A version's rows fit only one text tower: a registry belongs to the base with this `base_fingerprint`.
        """
        version = VersionRow(
            number=FIRST, language=BUILT_IN_LANGUAGE, manifest_sha256=base_fingerprint, rows=0, bytes=0, report=report
        )
        languages, change = {BUILT_IN_LANGUAGE: FIRST}, {"kind": "initial"}
        release = ReleaseRow(number=1, shared=FIRST, languages=languages, actor="system", reason="", change=change)
        with self.begin() as session:
            first = session.get(VersionRow, FIRST)
            if first is not None and first.manifest_sha256 != base_fingerprint:
                raise BaseMismatch(
                    "This registry was created for another base model: restore PICTOGLOT_BASE or use another HOME."
                )
            for row in (version, release, AliasRow(name=SERVING, release=1)) if first is None else ():
                session.add(row)
                session.flush()
        return self.releases.serving()


def open_registry(url: str, *, migrate: bool = True) -> Registry:
    """Connect to `url` (SQLite or PostgreSQL) and, with `migrate`, update its tables. Raises RegistryUnavailable."""
    registry = Registry(url)
    try:
        if migrate:
            with registry.begin() as session:
                upgrade(session.connection())
        else:
            registry.ping()
    except BaseException:
        registry.close()
        raise
    return registry
