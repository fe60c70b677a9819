"""Durable files: written whole or not at all, verified before use. Files that must survive a crash are written here.

The recipe is PostgreSQL's durable rename: temporary name in the same folder, fsync, rename, fsync of the folder. A
failed fsync is never retried; the temporary file is removed and the error is raised.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from uuid import uuid4

from store.clock import SteadyClock
from store.errors import CorruptFolder, DiskTooSmall, StorageFull

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
_IS_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{32}}").fullmatch  # whoever wrote others wants them
_OWN_HASH = "manifest_sha256"  # in a manifest
_CHUNK = 1 << 20  # bytes read at a time while hashing
_HASHED = 2  # files at once: a processor hashes 1 GB a second, and a large segment has two large files
_SUM = b"\0sha256:"  # before the checksum at the end of a file that has its own
_SUMMED = len(_SUM) + 32  # bytes
# What the system answers when a file is not there or its bytes are lost. All else, such as too many open files, a
# server that is away or a folder that may not be read, says nothing about the file.
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO))
# Called with the number of bytes read; may wait, so that a scrub is gentle to the disk. What is read with it does not
# stay in the page cache, which others need.
OnRead = Callable[[int], object]
_passed_points: dict[str, int] = {}
_durable_folders = set[Path]()  # whose names this process has made durable
_clock = SteadyClock()
_clock.is_steady(time.time())  # what comes later is compared with this


def pass_fault_point(name: str) -> None:
    """Die by SIGKILL here when the environment says `FAULT_POINT=name:nth`; otherwise do nothing."""
    target, _, nth = os.environ.get("FAULT_POINT", "").partition(":")
    if target == name:
        _passed_points[name] = _passed_points.get(name, 0) + 1
        if _passed_points[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def make_folder(path: Path) -> None:
    """Make a folder, and missing ones above it, durably: a power cut loses none of them.

    The name of an existing one is made durable too, once a process: its maker may have been killed before that. A
    temporary one, which the next start sweeps, is only made.
    """
    path = path.absolute()
    if path in _durable_folders and path.is_dir():
        return
    path.mkdir(parents=True, exist_ok=True)
    if path.name.startswith(TEMPORARY):
        return
    above = path.parent
    if above != path and os.access(above, os.R_OK | os.W_OK):  # otherwise nobody like us has made it
        fsync(above)
        make_folder(above)
    _durable_folders.add(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`; after a crash the path holds the old content or the new one, never a part."""
    write_pieces(path, (data,))


def write_once(path: Path, data: bytes) -> None:
    """Put `data` at `path` unless it exists: of two writers, the first one wins."""
    write_pieces(path, (data,), place=_link)


def write_pieces(path: Path, pieces: Iterable[bytes], place: Callable[[Path, Path], object] = os.replace) -> None:
    """Put all pieces together at `path`; write nothing if producing one of them fails."""
    make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY}{uuid4().hex}"
    try:
        with temporary.open("xb") as stream:
            pass_fault_point("files.temp_open")
            stream.writelines(pieces)
            pass_fault_point("files.written")
            stream.flush()
            os.fsync(stream.fileno())
        pass_fault_point("files.fsynced")
        place(temporary, path)
        pass_fault_point("files.renamed")
        fsync(path.parent)
        pass_fault_point("files.folder_fsynced")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append_checksum(data: bytes) -> bytes:
    """Return `data` and its checksum, for a file that no manifest names; a JPEG ends before it."""
    return data + _SUM + hashlib.sha256(data).digest()


def strip_checksum(data: bytes) -> bytes:
    """Return the content without its checksum. Raises `CorruptFolder` when a bit has changed or is missing."""
    content, mark = data[:-_SUMMED], data[-_SUMMED:]
    if mark != _SUM + hashlib.sha256(content).digest():
        raise CorruptFolder("the file differs from its checksum")
    return content


def write_json(path: Path, value: Any) -> None:
    """Put `value` at `path` as indented, sorted JSON."""
    write_bytes(path, format_json(value))


def format_json(value: Any) -> bytes:
    """Return indented, sorted JSON; the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


@contextmanager
def stage(final: Path) -> Iterator[Path]:
    """Make a folder that appears at `final`, whole and durable, when the block ends without an error.

    When `final` exists by then (another attempt got there first), the new one is dropped: folders are immutable. Until
    then no sweeper takes it, however long nothing changes in it.
    """
    make_folder(final.parent)
    temporary = final.parent / f"{TEMPORARY}{uuid4().hex}"
    temporary.mkdir()
    pass_fault_point("files.temp_open")
    try:
        with _open(temporary) as descriptor:
            with suppress(OSError):  # of a file system without locks: there only what changes is kept
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield temporary
            pass_fault_point("files.written")
            for parent, _, files in _walk(temporary):
                for name in files:
                    fsync(Path(parent, name))
                fsync(Path(parent))
            pass_fault_point("files.fsynced")
            if not final.exists():
                try:
                    temporary.rename(final)
                except OSError:
                    if final.exists():  # another attempt was faster
                        return
                    raise
                pass_fault_point("files.renamed")
                fsync(final.parent)
                pass_fault_point("files.folder_fsynced")
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def write_manifest(folder: Path, fields: dict[str, Any], known: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Write a manifest with `fields` and `files: {name: {sha256, size}}`, and return its sha256.

    It has a checksum of its own, for folders whose hash is registered nowhere. `known` are the files, where they were
    hashed before.
    """
    files = known or {
        name: {"sha256": hash_file(folder / name), "size": (folder / name).stat().st_size}
        for name in _list_files(folder)
    }
    data = _format_manifest({**fields, "files": files})
    (folder / MANIFEST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path, manifest_sha256: str | None = None) -> dict[str, Any]:
    """Return the manifest of `folder` after checking its hash, if given, or its own checksum; raises as `verify`."""
    with _translate_damage():
        data = (folder / MANIFEST).read_bytes()
        if manifest_sha256 is not None and hashlib.sha256(data).hexdigest() != manifest_sha256:
            raise CorruptFolder("the manifest differs from the registered one")
        manifest: dict[str, Any] = json.loads(data)
        if manifest_sha256 is None and data != _format_manifest(manifest):
            raise CorruptFolder("the manifest differs from its own checksum")
    return manifest


def verify(folder: Path, manifest_sha256: str | None = None, on_read: OnRead | None = None) -> dict[str, Any]:
    """Return the manifest of `folder` after checking the size and hash of every file, and its own hash if given.

    Raises `CorruptFolder`, or `OSError` when this process or machine cannot read any file now.
    """
    manifest = read_manifest(folder, manifest_sha256)
    with _translate_damage():
        expected: dict[str, dict[str, Any]] = manifest["files"]
        if others := _list_files(folder).symmetric_difference(expected):
            raise CorruptFolder(f"{min(others)} is missing, or there although the manifest does not name it")
        for name, facts in expected.items():
            if (folder / name).stat().st_size != facts["size"]:
                raise CorruptFolder(f"{name} differs from its manifest")
        with ThreadPoolExecutor(_HASHED if on_read is None else 1) as threads:
            hashes = threads.map(lambda name: hash_file(folder / name, on_read), expected)
            for (name, facts), digest in zip(expected.items(), hashes, strict=True):
                if digest != facts["sha256"]:
                    raise CorruptFolder(f"{name} differs from its manifest")
    return manifest


@contextmanager
def _translate_damage() -> Iterator[None]:
    """Raise `CorruptFolder` for what says that files, or a manifest, are lost or damaged."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGE:
            raise
        raise CorruptFolder("the manifest cannot be read") from error


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder, and raise an OSError: `os.walk` and `Path.rglob` take what cannot be read now for empty."""

    def fail(error: OSError) -> NoReturn:
        raise error

    return os.walk(folder, onerror=fail)


def _list_files(folder: Path) -> set[str]:
    """List the names of all files below `folder` but its manifest."""
    found = _walk(folder)
    return {Path(up, name).relative_to(folder).as_posix() for up, _, names in found for name in names} - {MANIFEST}


def _format_manifest(fields: dict[str, Any]) -> bytes:
    """Return the manifest as JSON with its own hash, that of all other fields."""
    rest = {name: value for name, value in fields.items() if name != _OWN_HASH}
    return format_json({**rest, _OWN_HASH: hashlib.sha256(format_json(rest)).hexdigest()})


def is_intact(folder: Path, manifest_sha256: str | None = None, on_read: OnRead | None = None) -> bool:
    """Return whether `verify` accepts the folder."""
    with suppress(CorruptFolder):
        return bool(verify(folder, manifest_sha256, on_read))
    return False


def read(path: Path, on_read: OnRead | None = None) -> bytes:
    with path.open("rb") as stream:
        data = stream.read()
        if on_read is not None:
            _drop_pages(stream)
            on_read(len(data))
    return data


def hash_file(path: Path, on_read: OnRead | None = None) -> str:
    """Return the sha256 of a file, in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            if on_read is not None:
                on_read(len(chunk))
        if on_read is not None:
            _drop_pages(stream)
    return digest.hexdigest()


def _drop_pages(stream: BinaryIO) -> None:
    """Let the system forget the pages of a file that nobody has mapped."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remove(path: Path) -> None:
    """Remove a file or folder; a crash leaves a folder whole, or under a temporary name that `sweep` removes."""
    if path.is_file():
        path.unlink(missing_ok=True)
    elif (aside := set_aside(path)) is not None:
        shutil.rmtree(aside, ignore_errors=True)


def set_aside(folder: Path) -> Path | None:
    """Rename a folder, so that it can be deleted later, and return its new path; None when it does not exist."""
    aside = folder.parent / f"{TEMPORARY}{uuid4().hex}"
    try:
        folder.rename(aside)
    except FileNotFoundError:  # another process removed it
        return None
    return aside


@contextmanager
def restrict_access() -> Iterator[None]:
    """Let this user alone read the files that are written in the block."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def sweep(folder: Path, seconds: float = 0.0, *, deep: bool = True) -> int:  # 0 s: only where no other process writes
    """Remove what our crashed writers left in `folder`, if `deep` also below, older than `seconds`; return how many."""
    found = islice(os.walk(folder), None if deep else 1)  # not `Path.rglob`: goes on when others sweep a folder away
    names = (Path(parent, name) for parent, folders, files in found for name in (*folders, *files))
    leftovers = [path for path in names if _IS_TEMPORARY(path.name) and is_older(path, seconds)]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


def is_older(path: Path, seconds: float) -> bool:
    """Return whether `path` and its content did not change for that many seconds, and no process stages it.

    It is not when it cannot be read, nor for an hour after the clock jumped: what is being written would seem old.
    """
    if seconds > 0 and not _clock.is_steady(time.time()):
        return False
    try:
        found = _walk(path) if path.is_dir() else ()
        content = (Path(parent, name) for parent, folders, files in found for name in (*folders, *files))
        newest: float = max(entry.stat().st_mtime for entry in (path, *content))
        return time.time() - newest >= seconds and not (path.name.startswith(TEMPORARY) and _is_held(path))
    except OSError:
        return False


def _is_held(folder: Path) -> bool:
    with _open(folder) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def measure_free(path: Path) -> int:
    """Return the free bytes of the file system that holds `path`, or will hold it."""
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


def require_free(path: Path, need: int) -> None:
    """Raise `StorageFull` unless the file system that holds `path` has `need` bytes free."""
    if measure_free(path) < need:
        raise StorageFull("not enough free space under the data root")


def require_room(home: Path, need: int, reserve: int = 0) -> None:
    """Raise `DiskTooSmall`, with both numbers, unless `need` bytes, and `reserve` more, are free under `home`."""
    if (free := max(0, measure_free(home) - reserve)) < need:
        detail = f"The move needs about {need / 1e6:,.0f} MB of disk, and {free / 1e6:,.0f} MB are free."
        raise DiskTooSmall(detail, needed=need, free=free)


@contextmanager
def translate_full_disk() -> Iterator[None]:
    """Raise `StorageFull` for whatever a library raises in the block when the disk is full."""
    try:
        yield
    except Exception as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        if getattr(error, "errno", None) in full or any(os.strerror(number) in str(error) for number in full):
            raise StorageFull("the disk under the data root is full") from error
        raise


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: there the last writer wins
        temporary.replace(path)
    temporary.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    with _open(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
