"""Files of a segment: its rows, and its folder, staged and verified, with a note of those that were hashed here before.

The file of rows is in the format of safetensors. Pictures are looked up by a hash of their id: `hashes` ascends,
`order` has the row of each. `names` has the picture and the text of each entry one after another, `ends` where each of
them ends. Several segments are joined without being in memory together.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.set_states import SealedState
from index.vectors import Entry, Halves, Matrix, VectorKeys, VectorRows
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, IndexFileCorrupt

_TYPES = {"F16": np.float16, "I64": np.int64, "U64": np.uint64, "U32": np.uint32, "U8": np.uint8}
_CHUNK = 65_536  # rows at a time: with 512 dimensions 64 MiB of vectors
_NOTES = "verified"  # in the data root; not shared with other machines


@dataclass(frozen=True)
class Names:
    """What rows represent, packed: row n has the entry whose picture and text end at `ends[2n]` and `ends[2n + 1]`."""

    ends: NDArray[np.uint64]
    names: NDArray[np.uint8]

    @classmethod
    def pack(cls, entries: Sequence[Entry]) -> "Names":
        parts = [part.encode() for entry in entries for part in entry]
        ends = np.cumsum([len(part) for part in parts], dtype=np.uint64)
        return cls(ends, np.frombuffer(b"".join(parts), dtype=np.uint8))

    def read(self, row: int) -> Entry:
        start = int(self.ends[2 * row - 1]) if row else 0
        middle, end = int(self.ends[2 * row]), int(self.ends[2 * row + 1])
        name = self.names[start:end].tobytes()
        return Entry(name[: middle - start].decode(), name[middle - start :].decode())

    @staticmethod
    def join(several: Sequence["Names"]) -> "Names":
        """Put several one after another."""
        starts = np.cumsum([0, *(len(each.names) for each in several)], dtype=np.uint64)
        ends = [each.ends + start for each, start in zip(several, starts, strict=False)]
        return Names(np.concatenate(ends), np.concatenate([each.names for each in several]))

    def take(self, rows: NDArray[np.int64]) -> "Names":
        """Return the entries of these rows, in this order."""
        lengths = np.diff(self.ends, prepend=np.uint64(0)).astype(np.int64).reshape(-1, 2)
        starts = (self.ends.reshape(-1, 2)[:, 1].astype(np.int64) - lengths.sum(axis=1))[rows]
        ends = lengths[rows].reshape(-1).cumsum()
        taken = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
        for first in range(0, len(rows), _CHUNK):
            sizes = lengths[rows[first : first + _CHUNK]].sum(axis=1)
            stops = sizes.cumsum()
            places = np.arange(int(stops[-1])) + np.repeat(starts[first : first + _CHUNK] - stops + sizes, sizes)
            begin = int(ends[2 * first - 1]) if first else 0
            taken[begin : begin + len(places)] = self.names[places]
        return Names(ends.astype(np.uint64), taken)


@dataclass(frozen=True)
class StoredRows:
    """Rows by key. Their vectors stay where they are, in `sources`, and are read some at a time.

    `places` has the number of each row among all rows of all sources.
    """

    keys: VectorKeys
    hashes: NDArray[np.uint64]  # of the picture of each row
    names: Names
    sources: Sequence[Matrix | Halves]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def entries(self) -> list[Entry]:
        """What the rows represent."""
        return [self.names.read(row) for row in range(len(self.keys))]

    @classmethod
    def pack(cls, rows: VectorRows) -> "StoredRows":
        rows = rows.sort_by_key()
        hashes = np.array([hash_picture(entry.picture) for entry in rows.entries], dtype=np.uint64)
        return cls(rows.keys, hashes, Names.pack(rows.entries), [rows.vectors], np.arange(len(rows)))

    def take(self, rows: NDArray[np.int64]) -> "StoredRows":
        if len(rows) == len(self.keys) and np.array_equal(rows, np.arange(len(rows))):
            return self
        names = self.names.take(rows)
        return StoredRows(self.keys[rows], self.hashes[rows], names, self.sources, self.places[rows])

    @staticmethod
    def join(several: Sequence["StoredRows"]) -> "StoredRows":
        """Join several, sorted by key."""
        starts = np.cumsum([0, *(sum(map(len, each.sources)) for each in several)])
        joined = StoredRows(
            np.concatenate([each.keys for each in several]),
            np.concatenate([each.hashes for each in several]),
            Names.join([each.names for each in several]),
            [source for each in several for source in each.sources],
            np.concatenate([each.places + start for each, start in zip(several, starts, strict=False)]),
        )
        return joined.take(np.argsort(joined.keys, kind="stable"))

    def iterate_vectors(self) -> Iterator[Halves]:
        """Yield the vectors as halves, some rows at a time."""
        starts = np.cumsum([0, *map(len, self.sources)])
        for first in range(0, len(self.places), _CHUNK):
            places = self.places[first : first + _CHUNK]
            sources = np.searchsorted(starts, places, "right") - 1
            vectors = np.empty((len(places), self.sources[0].shape[1]), dtype=np.float16)
            for number in np.unique(sources):
                here = sources == number
                vectors[here] = self.sources[number][places[here] - starts[number]]
            yield vectors

    def hash_all(self, digest: Any) -> None:
        for data in chain((self.keys, self.names.ends, self.names.names), self.iterate_vectors()):
            digest.update(np.ascontiguousarray(data).data)

    def write(self, path: Path) -> None:
        """Write all rows; the file is not durable yet. Never has all vectors in memory, as safetensors' own writer."""
        order = np.argsort(self.hashes, kind="stable")
        small: dict[str, NDArray[Any]] = {
            "keys": self.keys,
            "hashes": self.hashes[order],
            "order": order.astype(np.uint32),
            "ends": self.names.ends,
            "names": self.names.names,
        }
        shapes = {name: each.shape for name, each in small.items()} | {
            "vectors": (len(self.keys), self.sources[0].shape[1])
        }
        types = {name: each.dtype for name, each in small.items()} | {"vectors": np.dtype(np.float16)}
        header, at = dict[str, Any](), 0
        for name, shape in shapes.items():
            size = int(np.prod(shape, dtype=np.int64)) * types[name].itemsize
            kind = next(kind for kind, of in _TYPES.items() if types[name] == of)
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": (at, at + size)}
            at += size
        about = json.dumps(header).encode()
        about += b" " * (-len(about) % 8)
        with path.open("wb") as file:
            file.write(len(about).to_bytes(8, "little") + about)
            for data in chain(small.values(), self.iterate_vectors()):
                file.write(np.ascontiguousarray(data).data)


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


def hash_picture(picture: str) -> int:
    """Hash a picture's id, for the look-up of its rows."""
    return int.from_bytes(hashlib.blake2b(picture.encode(), digest_size=8).digest(), "little")


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
        root.remove_from_store(name)
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


def delete_note(root: DataRoot, name: str) -> None:
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
