"""Which generations exist, as rows of the registry: registered, looked up, retired. Opens and writes no vectors."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from index.generation import Identity, Written, name_of
from index.tables import GenerationRow
from model.data_root import DataRoot
from model.registry import Registry


@dataclass(frozen=True)
class Registered:
    """A generation that was written; it holds all changes of the gallery up to `upto_change`."""

    id: str
    manifest_sha256: str
    upto_change: int


class Catalogue:
    """The generations of one registry and their folders under `root`."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        self._registry = registry
        self._root = root

    def register(self, identity: Identity, written: Written, upto_change: int) -> None:
        """Make a written generation the newest of its identity."""
        with self._registry.begin() as session:
            session.execute(delete(GenerationRow).where(GenerationRow.id == written.id))  # the same content, older
            session.execute(
                insert(GenerationRow).values(
                    id=written.id,
                    kind=identity.kind,
                    language=identity.language,
                    version=identity.version,
                    fingerprint=identity.fingerprint,
                    folder=name_of(written.id),
                    manifest_sha256=written.manifest_sha256,
                    count=written.count,
                    upto_change=upto_change,
                )
            )

    def of(self, identity: Identity) -> list[Registered]:
        """The generations of this identity, newest first."""
        with self._registry.read() as session:
            return _of(session, identity)

    def retire(self, identity: Identity, keep: int = 2) -> int:
        """Forget and delete all but the newest `keep` of an identity; returns how many.

        The second newest stays, because another process may be about to open it.
        """
        with self._registry.begin() as session:
            doomed = [registered.id for registered in _of(session, identity)[keep:]]
            session.execute(delete(GenerationRow).where(GenerationRow.id.in_(doomed)))
        for id in doomed:
            self._root.remove(name_of(id))
        return len(doomed)


def _of(session: Session, identity: Identity) -> list[Registered]:
    query = select(GenerationRow.id, GenerationRow.manifest_sha256, GenerationRow.upto_change).where(
        GenerationRow.kind == identity.kind,
        GenerationRow.fingerprint == identity.fingerprint,
        GenerationRow.language == identity.language,
        GenerationRow.version == identity.version,
    )
    newest = query.order_by(GenerationRow.upto_change.desc(), GenerationRow.created_at.desc(), GenerationRow.id)
    return [Registered(*row) for row in session.execute(newest)]
