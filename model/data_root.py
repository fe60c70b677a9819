"""The data root: one folder for all that pictoglot writes, with a copy in an object store where there is one.

A name is a path below the root, such as `versions/exp_1`. Without a store, `open`, `commit` and `remove` are about the
folder alone. In the store a folder or file is a manifest under its name, and beside it one object for each content,
named by its sha256. So nothing is ever overwritten by something else: two writers cannot mix, half an upload has no
manifest and does not exist, and of two manifests the first one stays.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from model import storage
from model.errors import CorruptFolder, StoreUnavailable
from model.storage import MANIFEST, TEMPORARY

if TYPE_CHECKING:
    from model.objects import Objects

# Everything that another machine may have to read; what is not here is scratch, and stays on its machine.
SHARED = (
    "versions/*",
    "generations/*",
    "pictures/*/*.webp",
    "expansions/*/dataset",
    "expansions/*/validation.json",
    "expansions/*/plan.json",
    "expansions/*/replay.json",
    "cursor.key",
)


class DataRoot:
    """The folder `home`, shared with other machines through the store at the URL `store` if there is one.

    Safe from threads and beside other processes. What asks the store may raise `StoreUnavailable`.
    """

    def __init__(self, home: Path, store: str = "") -> None:
        self.home = home
        self._objects = _store_at(store) if store else None

    @property
    def shared(self) -> bool:
        """Whether there is a store."""
        return self._objects is not None

    def path(self, name: str) -> Path:
        """Where it is on this machine, or would be."""
        return self.home / name

    def open(self, name: str, manifest_sha256: str | None = None, corrupt: type[CorruptFolder] = CorruptFolder) -> Path:
        """The local path of a folder or file, which is copied from the store first when this machine lacks it.

        The copy is verified, and whole or not there. The path does not exist when neither has it. Raises `corrupt` when
        the copy in the store differs from its manifest, or the manifest from the given hash.
        """
        path = self.path(name)
        if self._objects is None or path.exists():
            return path
        manifest = self._objects.get(f"{name}/{MANIFEST}")
        if manifest is not None:
            try:
                if manifest_sha256 is not None and hashlib.sha256(manifest).hexdigest() != manifest_sha256:
                    raise CorruptFolder("the manifest in the store differs from the registered one")
                _download(self._objects, name, path, manifest)
            except CorruptFolder as error:
                raise corrupt(error.detail) from error
        return path

    def commit(self, name: str) -> None:
        """Put a finished folder (with its manifest) or file into the store; nothing when the store has it already.

        When another machine was first with other content, that replaces ours. Raises `CorruptFolder` when the folder
        differs from its own manifest.
        """
        objects, path = self._objects, self.path(name)
        if objects is None:
            return
        manifest = (path / MANIFEST).read_bytes() if path.is_dir() else _manifest_of(path)
        there = set(objects.names(name))
        theirs = objects.get(f"{name}/{MANIFEST}") if f"{name}/{MANIFEST}" in there else None
        if theirs is None or theirs == manifest:
            _upload(objects, name, path, manifest, there)
            if theirs is not None or objects.create(f"{name}/{MANIFEST}", manifest):
                return
            theirs = objects.get(f"{name}/{MANIFEST}")  # another machine was faster
        if theirs is not None and theirs != manifest:
            if path.is_dir():
                storage.remove(path)
            _download(objects, name, path, theirs)

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A new folder, as `storage.stage`, that is committed after the block."""
        with storage.stage(self.path(name)) as staged:
            yield staged
        self.commit(name)

    def first(self, name: str, make: Callable[[], bytes], *, private: bool = False) -> bytes:
        """The content of a file that is written once: of several writers, on whatever machine, the first one decides.

        `private`: for this user's eyes only.
        """
        with storage.private() if private else nullcontext():
            path = self.open(name)
            if path.exists():
                with suppress(StoreUnavailable):  # it may have been written before there was a store
                    self.commit(name)
                return path.read_bytes()
            storage.write_once(path, make())
            try:
                self.commit(name)
            except StoreUnavailable:
                path.unlink(missing_ok=True)  # or the next start would take it for the shared one
                raise
            return path.read_bytes()

    def remove(self, name: str) -> None:
        """Remove a folder or file, here and in the store.

        The store comes first, so that while it is away a trace stays here for the sweeper.
        """
        self.forget(name)
        storage.remove(self.path(name))

    def forget(self, name: str) -> None:
        """Remove a folder or file from the store alone; manifests first, so that none of them lacks a file."""
        if self._objects is not None:
            keys = self._objects.names(name)
            manifests = [key for key in keys if PurePosixPath(key).name == MANIFEST]
            self._objects.delete(manifests)
            self._objects.delete([key for key in keys if key not in manifests])

    def commit_all(self) -> int:
        """Commit what was there before there was a store, as far as other machines may read it; returns how many."""
        candidates = [
            path for pattern in SHARED for path in sorted(self.home.glob(pattern)) if TEMPORARY not in path.name
        ]
        whole = [path for path in candidates if path.is_file() or (path / MANIFEST).is_file()]
        for path in whole:
            self.commit(path.relative_to(self.home).as_posix())
        return len(whole)

    def probe(self) -> None:
        """Write an object, write it again in vain, read it and delete it; raises `StoreUnavailable`."""
        if self._objects is not None:
            name = f"probe-{uuid4().hex}"
            first, second = self._objects.create(name, b"probe"), self._objects.create(name, b"again")
            kept = self._objects.get(name)
            self._objects.delete([name])
            if not first or second or kept != b"probe":  # of two writers the first must win
                raise StoreUnavailable(
                    "the object store does not support conditional writes, or does not keep what was written"
                )


def _store_at(url: str) -> "Objects":
    from model.objects import Objects  # late: an extra, and most deployments have no store

    return Objects(url)


def _manifest_of(file: Path) -> bytes:
    """A file's manifest: that of a folder whose only file has no name."""
    facts = {"sha256": storage.sha256_file(file), "size": file.stat().st_size}
    return json.dumps({"files": {"": facts}}).encode()


def _files(manifest: bytes) -> dict[str, dict[str, Any]]:
    """The files that a manifest names, with their facts; raises `CorruptFolder`."""
    try:
        found = {str(name): {"sha256": str(f["sha256"]), "size": int(f["size"])} for name, f in _read(manifest).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFolder("the manifest in the store cannot be read") from error
    parts = [PurePosixPath(name) for name in found]
    if any(part.is_absolute() or ".." in part.parts for part in parts):  # would be written outside of its folder
        raise CorruptFolder("the manifest in the store names a file outside of its folder")
    return found


def _read(manifest: bytes) -> Any:
    return json.loads(manifest)["files"]


def _upload(objects: "Objects", name: str, path: Path, manifest: bytes, there: set[str]) -> None:
    """Put what the store lacks: all, what an upload that was killed left out, or what was lost."""
    for file, facts in _files(manifest).items():
        key = f"{name}/{facts['sha256']}"
        if key not in there:
            if storage.sha256_file(path / file) != facts["sha256"]:
                raise CorruptFolder(f"{file} differs from its manifest")
            objects.put(key, path / file)
            storage.fault_point("remote.uploaded")


def _download(objects: "Objects", name: str, path: Path, manifest: bytes) -> None:
    files = _files(manifest)
    storage.require_free(path, sum(facts["size"] for facts in files.values()))
    if set(files) == {""}:
        storage.write_pieces(path, _verified(objects, name, files[""]))
        return
    with storage.stage(path) as staged:
        for file, facts in files.items():
            storage.write_pieces(staged / file, _verified(objects, name, facts))
        (staged / MANIFEST).write_bytes(manifest)


def _verified(objects: "Objects", name: str, facts: dict[str, Any]) -> Iterator[bytes]:
    """An object's bytes; raises `CorruptFolder` at their end unless they are those of the manifest."""
    digest, size = hashlib.sha256(), 0
    for piece in objects.stream(f"{name}/{facts['sha256']}"):
        digest.update(piece)
        size += len(piece)
        yield piece
    if digest.hexdigest() != facts["sha256"] or size != facts["size"]:
        raise CorruptFolder("an object in the store differs from its manifest")
