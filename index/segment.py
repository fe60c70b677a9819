"""A sealed segment of a vector set: immutable, verified when it is first opened on a machine, mapped into memory.

Its folder has the rows (`rows.safetensors`), a FAISS index over them (`index.faiss`), and a manifest with the hash of
each. FAISS files have no checksum of their own; the manifest makes them as safe as the vectors.
"""

import hashlib
import json
import os
import weakref
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from index import ivf
from index.ivf import Curve
from index.segment_files import (
    Names,
    StoredRows,
    delete_note,
    hash_picture,
    list_inodes,
    read_rows,
    stage_segment,
    verify_files,
)
from index.set_states import PartRecord
from index.vectors import Candidates, Entry, Halves, Identity, Matrix, Vector, VectorKeys, VectorRows
from store import files
from store.data_root import DataRoot
from store.errors import (
    CorruptFolder,
    IndexFileCorrupt,
    IndexInconsistent,
    IndexVersionMismatch,
    StorageFull,
    StoreUnavailable,
)

SEGMENTS = "segments"  # their folder in the data root
FORMAT = 1
_ROWS, _INDEX = "rows.safetensors", "index.faiss"
_SAMPLED = 64  # vectors that are looked at when a segment is opened
_BYTES_A_ROW = 44  # beside vector and names: key, hash, order, two ends, and FAISS's own number
_FEW = 10_000  # allowed rows that are compared one by one instead of through the index
_COPIED = 2 * _FEW  # rows whose vectors a segment remembers, in all
_REMEMBERED = 8  # arrays of allowed keys of which it remembers the rows, at most


@dataclass(frozen=True)
class _AllowedRows:
    """Rows of a segment with an allowed key: as a bitmap (`alive`; None means all), or as numbers (`few`)."""

    allowed: weakref.ref[VectorKeys]  # the filter that was forgotten is not to stay in memory for this
    count: int
    alive: ivf.Alive | None = None
    counts: NDArray[np.int64] | None = None  # how many of them each list has, if they are searched by lists
    few: NDArray[np.int64] | None = None  # their numbers, if they are few
    scan: Any = None  # an index over these few


def _make_memory() -> LRUCache[int, _AllowedRows]:
    least = _COPIED // _REMEMBERED
    return LRUCache(_COPIED, lambda rows: max(least, 0 if rows.few is None else rows.count))


@dataclass(frozen=True, eq=False)
class Segment:
    """A `Part` on disk. `alive` is None, or tells which rows have not been replaced or deleted since."""

    record: PartRecord
    exact: bool
    keys: VectorKeys
    vectors: Halves
    _hashes: NDArray[np.uint64]  # of the pictures, rising
    _order: NDArray[np.uint32]  # the row of each hash
    _names: Names
    _index: Any
    _curves: dict[int, Curve]
    _recall: float
    lists: ivf.ListsOfRows
    _files: tuple[tuple[str, int], ...]
    alive: NDArray[np.bool_] | None = None
    _remembered: LRUCache[int, _AllowedRows] = field(init=False, default_factory=_make_memory)
    _lock: Lock = field(init=False, default_factory=Lock)  # of what is remembered: several threads search

    @cached_property
    def count(self) -> int:
        return len(self.keys) if self.alive is None else int(np.count_nonzero(self.alive))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Number of living rows in each list."""
        return self.lists.count_rows(self.find_living_rows())

    def read_entry(self, row: int) -> Entry:
        """Return what a row represents."""
        return self._names.read(row)

    def get_depth(self, hits: float) -> int | None:
        return None if self.exact else ivf.choose_effort(self._curves, hits, self._recall)

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: VectorKeys | None = None) -> Candidates:
        alive: ivf.Alive | None = self.alive
        depth = self.get_depth(hits) or 0
        probes: int | ivf.Probes = depth
        if allowed is not None:
            allowed_rows = self._find_allowed_rows(allowed)
            if allowed_rows.count <= max(_FEW, limit):
                rows = self._find_rows_by_key(allowed) if allowed_rows.few is None else allowed_rows.few
                scan = ivf.build_partial_scan(self.vectors, rows) if allowed_rows.scan is None else allowed_rows.scan
                found = ivf.search(scan, query, min(limit, max(1, allowed_rows.count)), 0, None)
                return self._make_candidates(rows[found.rows], found.scores, exact=True)
            alive = allowed_rows.alive
            if allowed_rows.counts is not None:
                near = self.get_depth(2 * hits * self.count / allowed_rows.count) or 0  # they may be half as dense here
                probes = ivf.choose_lists(self._index, query, depth, near, allowed_rows.counts)
        elif alive is not None:  # few are not: such a segment is written again
            probes = depth = depth * len(self.keys) // max(self.count, 1)
        found = ivf.search(self._index, query, limit, probes, alive)
        if probes and allowed is None and len(found.rows) < min(hits, self.count):  # what is near has been deleted
            probes = ivf.choose_lists(self._index, query, depth, 2 * depth, self._counts)
            found = ivf.search(self._index, query, limit, probes, alive)
        return self._make_candidates(found.rows, found.scores, exact=self.exact)

    def read_rows(self, picture: str) -> VectorRows:
        return self._take_rows(np.array(self._find_rows([picture]), dtype=np.int64)).sort_by_key()

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        return [(int(self.keys[row]), self.read_entry(row)) for row in self._find_rows(pictures)]

    def exclude_pictures(self, pictures: Collection[str]) -> "Segment":
        dead = self._find_rows(pictures)
        if not dead:
            return self
        alive = np.ones(len(self.keys), dtype=bool) if self.alive is None else self.alive.copy()
        alive[dead] = False
        return replace(self, alive=alive)

    def mark_dead(self, dead: NDArray[np.bool_] | None) -> "Segment":
        """Return the whole segment without the rows that have been replaced or deleted since it was sealed."""
        return replace(self, alive=None if dead is None else ~dead)

    def is_on_disk(self, root: DataRoot) -> bool:
        """Whether the files on this machine are those that were opened: damaged ones are written again."""
        return self._files == list_inodes(root.locate(f"{SEGMENTS}/{self.record.id}"))

    def find_living_rows(self) -> NDArray[np.int64]:
        """Return the numbers of all living rows."""
        return np.arange(len(self.keys)) if self.alive is None else np.flatnonzero(self.alive)

    def read_all_rows(self) -> StoredRows:
        """Return all living rows, to be merged."""
        hashes = np.empty_like(self._hashes)
        hashes[self._order] = self._hashes
        whole = StoredRows(self.keys, hashes, self._names, [self.vectors], np.arange(len(self.keys)))
        return whole.take(self.find_living_rows())

    def _take_rows(self, rows: NDArray[np.int64]) -> VectorRows:
        return VectorRows(self.keys[rows], [self.read_entry(row) for row in rows.tolist()], self.vectors[rows])

    def _find_allowed_rows(self, allowed: VectorKeys) -> _AllowedRows:
        """Find the rows with allowed keys, or remember them: the same filter is often asked again."""
        with self._lock:
            remembered = self._remembered.get(id(allowed))
            if remembered is not None and remembered.allowed() is allowed:
                return remembered
        rows, alive, same = self._find_rows_by_key(allowed), self.alive, weakref.ref(allowed)
        if len(rows) <= _FEW:
            found = _AllowedRows(same, len(rows), few=rows, scan=ivf.build_partial_scan(self.vectors, rows))
        else:
            if len(rows) < self.count:
                alive = np.zeros(len(self.keys), dtype=bool)
                alive[rows] = True
            counts = None if self.exact or alive is None else self.lists.count_rows(rows)
            found = _AllowedRows(same, len(rows), None if alive is None else ivf.pack_bits(alive), counts)
        with self._lock:
            self._remembered[id(allowed)] = found
        return found

    def _find_rows_by_key(self, allowed: VectorKeys) -> NDArray[np.int64]:
        """Find the living rows with an allowed key. When few are allowed, few of the mapped keys are read."""
        rows = np.searchsorted(self.keys, allowed)
        rows, allowed = rows[rows < len(self.keys)], allowed[rows < len(self.keys)]
        matches = self.keys[rows] == allowed
        living: NDArray[np.int64] = rows[matches if self.alive is None else matches & self.alive[rows]]
        return living

    def _make_candidates(self, rows: NDArray[np.int64], values: NDArray[np.float32], exact: bool) -> Candidates:
        return Candidates(values, self.vectors[rows], lambda number: self.read_entry(rows[number]), exact)

    def _find_rows(self, pictures: Collection[str]) -> list[int]:
        """Find the living rows of these pictures, all in one look-up, since most are in no segment yet."""
        names = list(pictures)
        hashes = np.array([hash_picture(name) for name in names], dtype=np.uint64)
        firsts, lasts = self._hashes.searchsorted(hashes, "left"), self._hashes.searchsorted(hashes, "right")
        return [
            int(row)
            for at in np.flatnonzero(firsts < lasts)
            for row in self._order[firsts[at] : lasts[at]]
            if (self.alive is None or self.alive[row]) and self.read_entry(row).picture == names[at]
        ]


def write(
    root: DataRoot,
    identity: Identity,
    rows: VectorRows | StoredRows,
    queries: Matrix | None = None,
    scan: bool = False,
) -> PartRecord:
    """Seal rows durably, and to the store if any; the same rows give the same segment.

    Recall is measured with `queries` (q, dimension) if it is approximate; without them, with generated ones. With
    `scan` it is exact, however many rows it has: for what is merged again at once.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, scan, asdict(identity)], sort_keys=True).encode())
    sealed = StoredRows.pack(rows) if isinstance(rows, VectorRows) else rows
    sealed.hash_all(digest)
    keys = sealed.keys
    id = f"{identity.kind}-{digest.hexdigest()[:16]}"
    folder = root.locate(f"{SEGMENTS}/{id}")
    with suppress(FileNotFoundError):
        os.utime(folder)  # an old copy becomes young: no sweeper may remove it before it is registered
    if folder.exists() and not files.is_intact(folder):
        files.remove(folder)  # a damaged copy of the same content
    if not folder.exists():
        copied = 4 if scan or len(keys) <= ivf.SCAN_LIMIT else 3  # bytes: the halves twice, or a code of one beside
        needed = len(keys) * (copied * identity.dimension + _BYTES_A_ROW)
        files.require_free(folder, needed + len(sealed.names.names))
    with stage_segment(root, f"{SEGMENTS}/{id}") as staged:
        sealed.write(staged / _ROWS)
        vectors = read_rows(staged / _ROWS)["vectors"]
        asked = ivf.generate_queries(vectors) if queries is None or not len(queries) else queries
        index = ivf.write(vectors, staged / _INDEX, asked, scan=scan)
        fields = {"format": FORMAT, "metric": "inner_product", "rows": len(keys), "index": index}
        files.write_manifest(staged, {**asdict(identity), **fields})
    first, last = (int(keys[0]), int(keys[-1])) if len(keys) else (0, 0)
    return PartRecord(id, files.hash_file(folder / files.MANIFEST), len(keys), first, last)


def read(root: DataRoot, record: PartRecord, identity: Identity, recall: float = 1.0) -> Segment:
    """Map a segment of this identity; every byte is hashed the first time it is opened on this machine.

    Raises `IndexFileCorrupt` (the files differ from the manifest, or the manifest from the registered hash),
    `IndexVersionMismatch` (another model, language, version or format) or `IndexInconsistent` (rows and index do not
    fit together), `StoreUnavailable`.
    """
    folder = root.open(f"{SEGMENTS}/{record.id}", record.manifest_sha256, IndexFileCorrupt)
    inodes = list_inodes(folder)
    try:
        manifest = verify_files(root, f"{SEGMENTS}/{record.id}", record.manifest_sha256)
        same = all(manifest.get(key) == value for key, value in asdict(identity).items())
        if manifest.get("format") != FORMAT or not same:
            raise IndexVersionMismatch("the segment was made by another model, or has another format")
        index, tensors = ivf.read(folder / _INDEX), read_rows(folder / _ROWS)
        about = manifest["index"]
        curves: dict[int, Curve] = {int(depth): curve for depth, curve in about.get("recall", {}).items()}
        opened = Segment(
            record, about["kind"] == "scan", tensors["keys"], tensors["vectors"], tensors["hashes"],
            tensors["order"], Names(tensors["ends"], tensors["names"]), index, curves, recall,
            ivf.ListsOfRows(index), inodes,
        )  # fmt: skip
        shape = (index.ntotal, index.d)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise IndexInconsistent("the segment's files cannot be read") from error
    if not opened.vectors.shape == shape == (record.rows, identity.dimension) or manifest["rows"] != record.rows:
        raise IndexInconsistent("the number or dimension of the vectors differs from the manifest")
    keys, ends, names = opened.keys, opened._names.ends, opened._names.names
    if len(keys) != shape[0] or np.any(keys[1:] <= keys[:-1]):
        raise IndexInconsistent("there is not exactly one unique key for each vector")
    if len(ends) != 2 * shape[0] or len(names) != (ends[-1] if len(ends) else 0):
        raise IndexInconsistent("there is not exactly one entry for each vector")
    if not len(opened._hashes) == len(opened._order) == shape[0]:
        raise IndexInconsistent("pictures cannot be looked up")
    some = opened.vectors[:: max(1, shape[0] // _SAMPLED)].astype(np.float32)
    if not np.allclose(np.einsum("nd,nd->n", some, some), 1.0, atol=1e-2):  # also false for NaN and infinity
        raise IndexInconsistent("the vectors are not of unit length")
    return opened


def is_intact(root: DataRoot, record: PartRecord, on_read: files.OnRead | None = None) -> bool:
    """Whether every byte of a segment on this machine is as registered; if not, it is hashed whenever it is opened."""
    name = f"{SEGMENTS}/{record.id}"
    if not files.is_intact(root.locate(name), record.manifest_sha256, on_read):
        delete_note(root, name)
        return False
    return True


def fetch(root: DataRoot, record: PartRecord) -> bool:
    """Replace a damaged copy on this machine by that of the store; False, and it stays, if that is not whole either."""
    name = f"{SEGMENTS}/{record.id}"
    return not is_intact(root, record) and root.renew(name, record.manifest_sha256)


def renew(root: DataRoot, record: PartRecord) -> None:
    """Replace a damaged copy on this machine by that of the store; when that is damaged too, remove both.

    Otherwise it, or a whole but foreign folder, would be taken for the segment that has to be written there.
    """
    name = f"{SEGMENTS}/{record.id}"
    if not is_intact(root, record):
        remove(root, record.id)
        with suppress(StoreUnavailable, StorageFull):
            try:
                root.open(name, record.manifest_sha256)
            except CorruptFolder:
                root.remove_from_store(name)


def remove(root: DataRoot, id: str) -> None:
    """Remove the files of a segment on this machine."""
    if (doomed := set_aside(root, id)) is not None:
        files.remove(doomed)


def set_aside(root: DataRoot, id: str) -> Path | None:
    """Rename a segment's folder, so that it can be deleted later: to delete gigabytes takes seconds."""
    delete_note(root, f"{SEGMENTS}/{id}")
    return files.set_aside(root.locate(f"{SEGMENTS}/{id}"))
