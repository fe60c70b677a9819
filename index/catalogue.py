"""Registers, looks up and deletes generations as rows of the registry. Does not read or write their vectors."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from index.generation import Identity, WrittenGeneration, folder_name
from index.tables import GenerationRow
from model.data_root import DataRoot
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

    def register(self, identity: Identity, written: WrittenGeneration, upto_change: int) -> None:
        """Make a written generation the newest of its identity."""
        with self._registry.begin() as session:
            session.execute(delete(GenerationRow).where(GenerationRow.id == written.id))  # same content, older row
            session.execute(
                insert(GenerationRow).values(
                    id=written.id,
                    kind=identity.kind,
                    language=identity.language,
                    version=identity.version,
                    fingerprint=identity.fingerprint,
                    folder=folder_name(written.id),
                    manifest_sha256=written.manifest_sha256,
                    count=written.count,
                    upto_change=upto_change,
                )
            )

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
            self._root.remove(folder_name(id))
        return len(retired)


def _of(session: Session, identity: Identity) -> list[RegisteredGeneration]:
    query = select(GenerationRow.id, GenerationRow.manifest_sha256, GenerationRow.upto_change).where(
        GenerationRow.kind == identity.kind,
        GenerationRow.fingerprint == identity.fingerprint,
        GenerationRow.language == identity.language,
        GenerationRow.version == identity.version,
    )
    newest_first = query.order_by(GenerationRow.upto_change.desc(), GenerationRow.created_at.desc(), GenerationRow.id)
    return [RegisteredGeneration(*row) for row in session.execute(newest_first)]
