"""The data root: one folder for all that pictoglot writes, with a copy in an object store if one is configured.

A name is a path below the root, such as `versions/exp_1`. Without a store, `open`, `commit` and `remove` only concern
the folder. In the store, a folder or file is a manifest under its name, with one object for each content beside it,
named by its sha256. So no content is ever overwritten with another: two writers cannot mix, an incomplete upload has no
manifest and does not exist, and of two manifests the first one stays, unless it names a picture that is damaged.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from store import files
from store.errors import CorruptFolder, StorageFull, StoreUnavailable
from store.files import MANIFEST, TEMPORARY

if TYPE_CHECKING:
    from store.objects import ObjectStore

EXPANSIONS = "expansions"  # folder
SIGNING_KEY = "signing.key"
_WORKING = ("checkpoints", "teacher", "pictures", "evaluation")  # in an expansion's folder, only needed to resume it
PICTURE, ORIGINAL = ".jpg", ".original"  # files that tell whether they are whole
# Everything that another machine may have to read; all other files are scratch and stay on their machine.
SHARED = (
    "versions/*",
    "segments/*",
    "pictures/*/*.jpg",
    "pictures/*/*.original",
    "expansions/*/dataset",
    "expansions/*/*.json",
    "cursor.key",
    SIGNING_KEY,
)


class DataRoot:
    """The folder `home`, shared with other machines through the store at the URL `store` if there is one.

    Safe with threads and with other processes. Every method that uses the store may raise `StoreUnavailable`.
    """

    def __init__(self, home: Path, store: str = "") -> None:
        self.home = home
        self._objects: ObjectStore | None = None
        if store:
            from store import objects  # late: it needs an extra, and most deployments have no store

            self._objects = objects.ObjectStore(store)

    @property
    def has_store(self) -> bool:
        """Whether other machines share the files through a store."""
        return self._objects is not None

    def locate(self, name: str) -> Path:
        """Return the path of a name on this machine, whether it exists or not."""
        return self.home / name

    def has(self, name: str) -> bool:
        """Return whether a folder or file is on this machine or in the store."""
        return self.locate(name).exists() or name in self.list_stored(name)

    def is_store_empty(self) -> bool:
        """Return whether the store, if there is one, has no object at all under its address."""
        return self._objects is None or not self._objects.list_keys("")

    def list_stored(self, name: str) -> set[str]:
        """List the folders and files with this name, or below it, that are complete in the store."""
        keys = () if self._objects is None else self._objects.list_keys(name)
        return {key.removesuffix(f"/{MANIFEST}") for key in keys if key.endswith(f"/{MANIFEST}")}

    def open(self, name: str, manifest_sha256: str | None = None, corrupt: type[CorruptFolder] = CorruptFolder) -> Path:
        """Return the local path of a folder or file, copied from the store if this machine lacks it.

        The copy is verified and complete. If the store lacks it too, the path does not exist. Raises `corrupt` when the
        copy in the store differs from its manifest, or the manifest from the given hash, and `StorageFull`.
        """
        path = self.locate(name)
        if self._objects is None or path.exists():
            return path
        try:
            manifest = self._read_stored_manifest(name, manifest_sha256)
            if manifest is not None:
                _download(self._objects, name, path, manifest)
        except CorruptFolder as error:
            raise corrupt(error.detail) from error
        return path

    def renew(self, name: str, manifest_sha256: str | None = None) -> bool:
        """Replace a damaged copy on this machine by that of the store; return whether that was possible.

        The damaged copy stays where the store has no whole one or does not answer, or the disk is full.
        """
        with suppress(CorruptFolder, StoreUnavailable, StorageFull):
            manifest = self._read_stored_manifest(name, manifest_sha256)
            if manifest is not None:
                self._replace(name, manifest)
                return True
        return False

    def commit(self, name: str) -> None:
        """Put a finished folder (with its manifest) or file into the store, unless the store has it already.

        If another machine was first with other content, that content replaces ours; if it is damaged, and ours is known
        to be whole, ours replaces it. Raises `CorruptFolder` when ours is damaged or may not be whole.
        """
        objects, path, key = self._objects, self.locate(name), f"{name}/{MANIFEST}"
        if objects is None:
            return
        manifest = (path / MANIFEST).read_bytes() if path.is_dir() else _make_manifest(path)
        stored = set(objects.list_keys(name))
        theirs = objects.get(key) if key in stored else None
        if theirs is None or theirs == manifest:
            _require_whole(name, path)
            _upload(objects, name, path, manifest, stored)
            if theirs is not None or objects.create(key, manifest):
                return
            theirs = objects.get(key)  # another machine was faster
        if theirs is None or theirs == manifest:
            return
        try:
            self._replace(name, theirs)
        except CorruptFolder:
            if path.suffix not in (PICTURE, ORIGINAL):
                raise
            _require_whole(name, path)
            _upload(objects, name, path, manifest, stored)
            # Not removed first: then others would find none, and of two machines that do so one removes what is whole
            objects.put(key, manifest)

    def _read_stored_manifest(self, name: str, manifest_sha256: str | None) -> bytes | None:
        """Return the manifest in the store, if there is one. Raises `CorruptFolder` when its hash is another."""
        manifest = None if self._objects is None else self._objects.get(f"{name}/{MANIFEST}")
        if manifest is not None and manifest_sha256 not in (None, hashlib.sha256(manifest).hexdigest()):
            raise CorruptFolder("the manifest in the store differs from the registered one")
        return manifest

    def _replace(self, name: str, manifest: bytes) -> None:
        """Replace our copy by that of the store; ours stays if that fails. Raises `CorruptFolder`."""
        assert self._objects is not None
        path = self.locate(name)
        temporary = path.parent / f"{TEMPORARY}{uuid4().hex}"
        try:
            _download(self._objects, name, temporary, manifest)
            _require_whole(name, temporary)
            _swap(temporary, path)
        finally:
            files.remove(temporary)

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """Make a folder that appears whole, and is committed, when the block ends without an error."""
        with files.stage(self.locate(name)) as staged:
            yield staged
        self.commit(name)

    def read_or_create(self, name: str, make: Callable[[], bytes], *, private: bool = False) -> bytes:
        """Return the content of a file that is written once; of several writers, the first one decides.

        With `private`, only this user can read the file, and a local copy is read even while the store is away, so that
        a process can start. Other files raise `StoreUnavailable` then: the local copy may not be the shared one.
        """
        with files.restrict_access() if private else nullcontext():
            path = self.open(name)
            if path.exists():
                with suppress(StoreUnavailable) if private else nullcontext():
                    self.commit(name)  # written before there was a store, or by a process that was killed before this
                return path.read_bytes()
            files.write_once(path, make())
            try:
                self.commit(name)
            except StoreUnavailable:
                path.unlink(missing_ok=True)  # otherwise the next start would take it for the shared one
                raise
            return path.read_bytes()

    def remove(self, name: str) -> None:
        """Remove a folder or file, here and in the store."""
        self.remove_from_store(name)  # first: while it is unavailable, the local copy stays for the sweeper
        files.remove(self.locate(name))

    def remove_from_store(self, name: str) -> None:
        """Remove a folder or file from the store alone; manifests first, so that none names a missing file."""
        if self._objects is not None:
            keys = self._objects.list_keys(name)
            manifests = [key for key in keys if PurePosixPath(key).name == MANIFEST]
            self._objects.delete(manifests)
            self._objects.delete([key for key in keys if key not in manifests])

    def commit_all(self) -> int:
        """Commit to a new store all that other machines may read; return how many folders and files.

        Damaged ones are left out, and raise `CorruptFolder` at the end.
        """
        found = (path for pattern in SHARED for path in sorted(self.home.glob(pattern)) if TEMPORARY not in path.name)
        complete = [path for path in found if path.is_file() or (path / MANIFEST).is_file()]
        names, damaged = [path.relative_to(self.home).as_posix() for path in complete], list[str]()
        for name in names:
            try:
                self.commit(name)
            except CorruptFolder:
                damaged.append(name)
        if damaged:
            raise CorruptFolder(f"{len(damaged)} of {len(names)} are damaged and were left out, such as {damaged[0]}")
        return len(names)

    def probe(self) -> None:
        """Test the store: a second write of one object must be refused. Raises `StoreUnavailable`."""
        if self._objects is not None:
            name = f"probe-{uuid4().hex}"
            first, second = self._objects.create(name, b"probe"), self._objects.create(name, b"again")
            content = self._objects.get(name)
            self._objects.delete([name])
            if not first or second or content != b"probe":  # of two writers the first must win
                raise StoreUnavailable("the object store has no conditional writes, or does not keep what was written")


def is_whole(name: str, path: Path, on_read: files.OnRead | None = None) -> bool:
    """Return whether the file at `path` is as it was written, as far as one of this name tells.

    An original has its hash as its name, other files of pictures end with their checksum.
    """
    pure = PurePosixPath(name)
    if pure.suffix == ORIGINAL:
        return files.hash_file(path, on_read) == pure.stem
    if pure.suffix == PICTURE:
        try:
            files.strip_checksum(files.read(path, on_read))
        except CorruptFolder:
            return False
    return True


def _require_whole(name: str, path: Path) -> None:
    if not is_whole(name, path):
        raise CorruptFolder("the file differs from its checksum")


def _swap(new: Path, path: Path) -> None:
    """Move `new`, which is whole, to `path`; of several callers, one does."""
    old = files.set_aside(path) if new.is_dir() or path.is_dir() else None  # a file is replaced without a gap
    try:
        new.replace(path)
    except OSError:
        if not path.exists():  # otherwise another process was faster
            raise
    finally:
        if old is not None and path.exists():
            files.remove(old)
        elif old is not None:
            old.rename(path)
    files.fsync(path.parent)


def _make_manifest(file: Path) -> bytes:
    """Return the manifest of a folder whose only file has no name."""
    facts = {"sha256": files.hash_file(file), "size": file.stat().st_size}
    return json.dumps({"files": {"": facts}}).encode()


def _parse_manifest(manifest: bytes) -> dict[str, dict[str, Any]]:
    """Return the files that a manifest names, with hash and size. Raises `CorruptFolder`."""
    try:
        entries = json.loads(manifest)["files"].items()
        facts = {str(name): {"sha256": str(its["sha256"]), "size": int(its["size"])} for name, its in entries}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFolder("the manifest in the store cannot be read") from error
    paths = [PurePosixPath(name) for name in facts]
    if any(path.is_absolute() or ".." in path.parts for path in paths):  # would be written outside of its folder
        raise CorruptFolder("the manifest in the store names a file outside of its folder")
    return facts


def _upload(objects: "ObjectStore", name: str, path: Path, manifest: bytes, stored: set[str]) -> None:
    """Upload the objects that the store lacks: all, or those that a killed upload left out, or lost ones."""
    for file, facts in _parse_manifest(manifest).items():
        key = f"{name}/{facts['sha256']}"
        if key not in stored:
            if files.hash_file(path / file) != facts["sha256"]:
                raise CorruptFolder(f"{file} differs from its manifest")
            objects.put(key, path / file)
            files.pass_fault_point("remote.uploaded")


@files.translate_full_disk()
def _download(objects: "ObjectStore", name: str, path: Path, manifest: bytes) -> None:
    entries = _parse_manifest(manifest)
    files.require_free(path, sum(facts["size"] for facts in entries.values()))
    if set(entries) == {""}:
        files.write_pieces(path, _stream_verified(objects, name, entries[""]))
        return
    with files.stage(path) as staged:
        for file, facts in entries.items():
            files.write_pieces(staged / file, _stream_verified(objects, name, facts))
        (staged / MANIFEST).write_bytes(manifest)


def _stream_verified(objects: "ObjectStore", name: str, facts: dict[str, Any]) -> Iterator[bytes]:
    """Stream the bytes of an object. Raises `CorruptFolder` at the end if they differ from the manifest."""
    digest, size = hashlib.sha256(), 0
    for piece in objects.stream(f"{name}/{facts['sha256']}"):
        digest.update(piece)
        size += len(piece)
        yield piece
    if digest.hexdigest() != facts["sha256"] or size != facts["size"]:
        raise CorruptFolder("an object in the store differs from its manifest")


def discard_working_files(root: DataRoot, expansion: str) -> None:
    """Remove the files that a finished expansion needed only to resume, not its dataset, validation set and report."""
    for name in _WORKING:
        files.remove(root.locate(f"{EXPANSIONS}/{expansion}/{name}"))
