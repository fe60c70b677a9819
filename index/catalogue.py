"""Which generations exist, as rows of the registry: registered, found, retired, swept. Opens and writes no vectors."""

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from index import generation
from index.gallery import FOLDER as PICTURES
from index.generation import Identity, Written
from model import remote, storage
from model.registry import Registry
from model.registry.tables import GenerationRow

_LEFT_OVER = 3_600.0  # seconds after which no process is still at work on what has no final name or no row


@dataclass(frozen=True)
class Registered:
    """A generation that was written; it holds all changes of the gallery up to `upto_change`."""

    id: str
    manifest_sha256: str
    upto_change: int


class Catalogue:
    """The generations of one registry and their folders under `root`."""

    def __init__(self, registry: Registry, root: Path) -> None:
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
                    folder=f"{generation.FOLDER}/{written.id}",
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
            remote.remove(generation.path(self._root, id))  # first: when the store is away, `sweep` still finds it here
            storage.remove(generation.path(self._root, id))
        return len(doomed)

    def sweep(self) -> int:
        """Remove what crashes left behind for an hour; returns how many files and folders.

        These are generations that were never registered, or retired but not deleted, and whatever has a temporary name
        beside them or among the pictures.
        """
        with self._registry.read() as session:
            kept = set(session.scalars(select(GenerationRow.id)))
        swept = sum(_swept(path) for path in (self._root / PICTURES).rglob(f"{storage.TEMPORARY}*"))
        for path in (self._root / generation.FOLDER).glob("*"):
            if path.name not in kept and _old(path):
                remote.remove(path)  # first: while the store is away a trace stays here for the next time
                swept += self._removed(path)
        return swept

    def _removed(self, path: Path) -> bool:
        with self._registry.begin() as session:  # nobody registers one meanwhile
            if session.get(GenerationRow, path.name) is None:
                return _swept(path)
        remote.publish(path)  # the same content again, registered since we looked
        return False


def _of(session: Session, identity: Identity) -> list[Registered]:
    query = select(GenerationRow.id, GenerationRow.manifest_sha256, GenerationRow.upto_change).where(
        GenerationRow.kind == identity.kind,
        GenerationRow.fingerprint == identity.fingerprint,
        GenerationRow.language == identity.language,
        GenerationRow.version == identity.version,
    )
    newest = query.order_by(GenerationRow.upto_change.desc(), GenerationRow.created_at.desc(), GenerationRow.id)
    return [Registered(*row) for row in session.execute(newest)]


def _old(path: Path) -> bool:
    with suppress(FileNotFoundError):  # its writer has just finished, or another process sweeps as well
        return time.time() - path.stat().st_mtime > _LEFT_OVER
    return False


def _swept(path: Path) -> bool:
    old = _old(path)
    if old and path.is_dir():
        storage.remove(path)
    elif old:
        path.unlink(missing_ok=True)
    return old
