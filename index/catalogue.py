"""Registers, looks up and deletes generations as rows of the registry. Does not read or write their vectors."""

from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from index.generation import Identity, WrittenGeneration, folder_name
from index.tables import GenerationRow
from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from model.registry import Registry


@dataclass(frozen=True)
class RegisteredGeneration:
    """A generation in the registry; it has all changes of the gallery up to `upto_change`."""

    id: str
    manifest_sha256: str
    upto_change: int


class Catalogue:
    """The generations of one registry and their folders under `root`."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        self._registry = registry
        self._root = root

    def register(self, identity: Identity, written: WrittenGeneration, upto_change: int) -> bool:
        """Make a written generation the newest of its identity.

        Returns False, and registers nothing, when another process has removed its files, which had no row until now.
        """
        name = folder_name(written.id)
        with self._registry.begin() as session:  # files are only removed by the one writer: see `remove_unregistered`
            if not self._root.path(name).exists():
                return False
            session.execute(delete(GenerationRow).where(GenerationRow.id == written.id))  # same content, older row
            session.execute(
                insert(GenerationRow).values(
                    id=written.id,
                    kind=identity.kind,
                    language=identity.language,
                    version=identity.version,
                    fingerprint=identity.fingerprint,
                    folder=name,
                    manifest_sha256=written.manifest_sha256,
                    count=written.count,
                    upto_change=upto_change,
                )
            )
        # The store took the files before, but until the row was there another machine may have removed them again
        with suppress(StoreUnavailable, FileNotFoundError):
            self._root.commit(name)
        return True

    def of(self, identity: Identity) -> list[RegisteredGeneration]:
        """The generations of this identity, newest first."""
        with self._registry.read() as session:
            return _of(session, identity)

    def retire(self, identity: Identity, keep: int = 2) -> int:
        """Delete all but the newest `keep` generations of an identity; returns how many were deleted.

        The second newest is kept because another process may be about to open it.
        """
        with self._registry.begin() as session:
            retired = [registered.id for registered in _of(session, identity)[keep:]]
            session.execute(delete(GenerationRow).where(GenerationRow.id.in_(retired)))
        for id in retired:
            self.remove_unregistered(id)
        return len(retired)

    def remove_unregistered(self, id: str) -> bool:
        """Remove the files of a generation unless it is registered; returns whether they were removed.

        The store comes first, outside of any transaction. A generation that is registered meanwhile is put there again.
        """
        name = folder_name(id)
        with self._registry.read() as session:
            if _registered(session, id):
                return False
        self._root.forget(name)
        with self._registry.begin() as session:  # the only writer: nothing is registered meanwhile
            registered = _registered(session, id)
            if not registered:
                storage.remove(self._root.path(name))
        if registered and self._root.path(name).exists():
            self._root.commit(name)
        return not registered


def _registered(session: Session, id: str) -> bool:
    return session.scalar(select(GenerationRow.id).where(GenerationRow.id == id)) is not None


def _of(session: Session, identity: Identity) -> list[RegisteredGeneration]:
    query = select(GenerationRow.id, GenerationRow.manifest_sha256, GenerationRow.upto_change).where(
        GenerationRow.kind == identity.kind,
        GenerationRow.fingerprint == identity.fingerprint,
        GenerationRow.language == identity.language,
        GenerationRow.version == identity.version,
    )
    newest_first = query.order_by(GenerationRow.upto_change.desc(), GenerationRow.created_at.desc(), GenerationRow.id)
    return [RegisteredGeneration(*row) for row in session.execute(newest_first)]
