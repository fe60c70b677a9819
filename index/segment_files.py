"""Files of a segment: its rows, mapped into memory, and a note of the folders that were hashed here before.

Rows are a safetensors file. Pictures are looked up by a hash of their id: `hashes` ascends, `order` has the row of
each. `names` has the picture and the text of each entry one after another, `ends` where each of them ends.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from index.set_states import SealedState
from index.vectors import Entry, Keys
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, IndexFileCorrupt

_TYPES = {"F16": np.float16, "I64": np.int64, "U64": np.uint64, "U32": np.uint32, "U8": np.uint8}
_NOTES = "verified"  # in the data root; not shared with other machines


def write_rows(path: Path, keys: Keys, entries: Sequence[Entry], vectors: NDArray[np.float16]) -> None:
    """Write all rows; the file is not durable yet."""
    hashes = np.array([hash_picture(entry.picture) for entry in entries], dtype=np.uint64)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    names = [part.encode() for entry in entries for part in entry]
    tensors: dict[str, NDArray[Any]] = {
        "keys": keys,
        "vectors": vectors,
        "hashes": hashes[order],
        "order": order,
        "ends": np.cumsum([len(name) for name in names], dtype=np.uint64),
        "names": np.frombuffer(b"".join(names), dtype=np.uint8),
    }
    save_file(tensors, path)


def read_rows(file: Path) -> dict[str, NDArray[Any]]:
    """Map the tensors of a safetensors file: nothing is copied (the format puts them at offsets)."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(min(length, file.stat().st_size)))
    data: NDArray[np.uint8] = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)  # else each look-up is slow
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__":
            start, end = about["data_offsets"]
            tensors[name] = (
                data[8 + length + start : 8 + length + end].view(_TYPES[about["dtype"]]).reshape(about["shape"])
            )
    return tensors


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


def hash_picture(picture: str) -> int:
    """Hash a picture's id, for the look-up of its rows."""
    return int.from_bytes(hashlib.blake2b(picture.encode(), digest_size=8).digest(), "little")


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
