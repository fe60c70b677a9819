"""Folders of segments: staged and verified, with a note of those that were hashed here before; which rows are dead."""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.set_states import SealedState
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, IndexFileCorrupt

_NOTES = "verified"  # in the data root; not shared with other machines


def pack_dead(dead: Mapping[str, NDArray[np.bool_]]) -> bytes:
    """Pack which rows of segments are dead: for each segment its id, then a bit for each row."""
    bits = (id.encode() + b"\0" + np.packbits(rows).tobytes() for id, rows in sorted(dead.items()))
    return zlib.compress(b"".join(bits))


def unpack_dead(state: SealedState) -> dict[str, NDArray[np.bool_]]:
    """Unpack which rows are dead; only segments that have dead rows are in it."""
    rest, rows_of, dead = zlib.decompress(state.dead), {each.id: each.rows for each in state.segments}, {}
    while rest:
        id, _, rest = rest.partition(b"\0")
        rows = rows_of[id.decode()]
        bits, rest = rest[: (rows + 7) // 8], rest[(rows + 7) // 8 :]
        dead[id.decode()] = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=rows).astype(bool)
    return dead


@contextmanager
def stage_segment(root: DataRoot, name: str) -> Iterator[Path]:
    """Stage the files, and remove a damaged copy in the store, which would come instead; raises `StorageFull`."""
    try:
        with files.translate_full_disk(), root.stage(name) as staged:
            yield staged
    except CorruptFolder as error:
        root.forget(name)
        raise IndexFileCorrupt("the store had a damaged segment of this name") from error


def verify_files(root: DataRoot, name: str, manifest_sha256: str) -> dict[str, Any]:
    """Return a folder's manifest; hash its files unless they are as last time. Raises `IndexFileCorrupt`."""
    folder, note = root.locate(name), _locate_note(root, name)
    facts = [manifest_sha256, _describe_files(folder)]
    with suppress(OSError, ValueError):
        if json.loads(note.read_bytes()) == facts:
            known: dict[str, Any] = json.loads((folder / files.MANIFEST).read_bytes())
            return known
    try:
        read = files.verify(folder, manifest_sha256)
    except CorruptFolder as error:
        raise IndexFileCorrupt(error.detail) from error
    with suppress(OSError):  # a full disk: it is only hashed again at the next start
        files.write_json(note, facts)
    return read


def forget_verified(root: DataRoot, name: str) -> None:
    """Remove the note of a folder."""
    _locate_note(root, name).unlink(missing_ok=True)


def list_inodes(folder: Path) -> tuple[tuple[str, int], ...]:
    """List which files are in a folder now; others when they were written again."""
    with suppress(OSError):
        return tuple(sorted((entry.name, entry.inode()) for entry in os.scandir(folder)))
    return ()


def _locate_note(root: DataRoot, name: str) -> Path:
    return root.locate(f"{_NOTES}/{Path(name).name}.json")


def _describe_files(folder: Path) -> list[list[Any]]:
    """Return what changes when somebody replaces or writes to a file: name, size, times, inode."""
    with suppress(OSError):
        entries = sorted((entry.name, entry.stat()) for entry in os.scandir(folder))
        return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in entries]
    return []
