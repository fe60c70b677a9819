"""A data root shared through an object store: what was finished is published, what is missing is fetched.

Below a root without a store every function here does nothing. In the store a folder or file is a manifest under its
path, and beside it one object for each content, named by its sha256. So nothing is ever overwritten by something else:
two writers cannot mix, half an upload has no manifest and is not there, and of two manifests the first one stands.
"""

import hashlib
import json
from collections.abc import Iterator
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
_roots: dict[Path, "Objects"] = {}


def mount(root: Path, url: str) -> None:
    """Share what lies below `root` through the store at `url` from now on; an empty one: share nothing."""
    _roots.pop(root, None)
    if url:
        from model.objects import Objects  # late: an extra, and most deployments have no store

        _roots[root] = Objects(url)


def mounted(path: Path) -> bool:
    """Whether there is a store behind this path."""
    return _at(path) is not None


def publish(path: Path) -> None:
    """Put a finished folder (with its manifest) or file into the store; nothing when it is there already.

    When another machine was first with other content, that replaces ours. Raises `StoreUnavailable`.
    """
    at = _at(path)
    if at is None:
        return
    objects, name = at
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
        _bring(objects, name, path, theirs)


def fetch(path: Path, manifest_sha256: str | None = None) -> None:
    """Bring a folder or file from the store when it is not here, verified, whole or not at all.

    Nothing happens when the store has none either. Raises `CorruptFolder` when what the store has differs from its
    manifest, or the manifest from the given hash; `StoreUnavailable`.
    """
    at = _at(path)
    if at is None or path.exists():
        return
    objects, name = at
    manifest = objects.get(f"{name}/{MANIFEST}")
    if manifest is None:
        return
    if manifest_sha256 is not None and hashlib.sha256(manifest).hexdigest() != manifest_sha256:
        raise CorruptFolder("the manifest in the store differs from the registered one")
    _bring(objects, name, path, manifest)


def remove(path: Path) -> None:
    """Remove from the store what was published at `path` or below it; the manifests first, so that none lacks a file.

    Raises `StoreUnavailable`.
    """
    at = _at(path)
    if at is not None:
        objects, name = at
        keys = objects.names(name)
        manifests = [key for key in keys if PurePosixPath(key).name == MANIFEST]
        objects.delete(manifests)
        objects.delete([key for key in keys if key not in manifests])


def publish_all(root: Path) -> int:
    """Publish everything below `root` that other machines may read: what was there before there was a store."""
    found = [path for pattern in SHARED for path in sorted(root.glob(pattern)) if TEMPORARY not in path.name]
    whole = [path for path in found if path.is_file() or (path / MANIFEST).is_file()]
    for path in whole:
        publish(path)
    return len(whole)


def probe(root: Path) -> None:
    """Write an object, once more in vain, read it and delete it; raises `StoreUnavailable`."""
    at = _at(root / f"probe-{uuid4().hex}")
    if at is not None:
        objects, name = at
        first, second = objects.create(name, b"probe"), objects.create(name, b"again")
        kept = objects.get(name)
        objects.delete([name])
        if not first or second or kept != b"probe":  # of two writers the first must win
            raise StoreUnavailable("the object store knows no conditional writes, or does not keep what was written")


def _at(path: Path) -> "tuple[Objects, str] | None":
    """The store behind a path and its name there; None where there is none."""
    for root, objects in _roots.items():
        if path.is_relative_to(root):
            return objects, path.relative_to(root).as_posix()
    return None


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


def _bring(objects: "Objects", name: str, path: Path, manifest: bytes) -> None:
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
