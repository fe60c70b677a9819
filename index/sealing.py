"""What of a vector set is sealed: a state of it, and how changes become one. Registers nothing.

A state says which segments, or runs in an engine, are sealed, and which of their rows are dead. Changes are written as
segments, and segments are merged by size. The registry keeps the dead rows in a few bytes, compressed.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import floor, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import ivf, segment
from index.engine import is_run
from index.engine.part import EnginePart
from index.errors import IndexFileCorrupt
from index.gallery import Gallery
from index.segment import Columns, Segment, Written
from index.tail import MemoryTail
from index.vectors import Identity, Matrix, Part, VectorSet
from model.data_root import DataRoot

_TIER = 4  # segments of about one size that are merged, and how much larger the next size is
_DEAD = 0.25  # share of dead rows with which a segment is written again
_ATTEMPTS = 3  # to write a segment, while other processes remove its files
Dead = Mapping[str, NDArray[np.bool_]]  # by segment: which rows are dead; without the segments that have none


@dataclass(frozen=True, eq=False)
class State:
    """What is sealed of a set: everything up to a change of the gallery. `number` is 0 when nothing was registered."""

    number: int
    upto_change: int
    segments: tuple[Written, ...] = ()
    dead: Dead | None = None
    hidden: tuple[int, ...] = ()  # rows in an engine that are dead

    @staticmethod
    def of(vector_set: VectorSet) -> "State":
        """What of a set is sealed: its segments, and its rows in them that have been replaced or deleted."""
        for part in vector_set.parts:
            if isinstance(part, EnginePart):
                return State(vector_set.state, vector_set.change, part.runs, hidden=part.hidden)
        parts = [part for part in vector_set.parts if isinstance(part, Segment)]
        dead = {part.written.id: ~part.alive for part in parts if part.alive is not None and not part.alive.all()}
        return State(vector_set.state, vector_set.change, tuple(part.written for part in parts), dead)

    def __eq__(self, other: object) -> bool:
        """Whether registering the other would change anything."""
        if not isinstance(other, State):
            return NotImplemented
        same = (self.upto_change, self.segments) == (other.upto_change, other.segments)
        return same and self.packed == other.packed

    @property
    def packed(self) -> bytes:
        """What the registry keeps of its dead rows: their ids in an engine, where they are few, or bits by segment."""
        in_engine = bool(self.segments) and is_run(self.segments[0].id)
        return packed_ids(self.hidden) if in_engine else packed(self.dead or {})

    __hash__ = None  # type: ignore[assignment]


NOTHING = State(0, 0)


def packed_ids(ids: tuple[int, ...]) -> bytes:
    """The ids of rows in an engine."""
    return zlib.compress(np.array(ids, dtype=np.int64).tobytes())


def unpacked_ids(data: bytes) -> tuple[int, ...]:
    """What `packed_ids` was given."""
    return tuple(np.frombuffer(zlib.decompress(data), dtype=np.int64).tolist())


def packed(dead: Dead) -> bytes:
    """One bit for each row, in the order of the segments' ids, each after the id; compressed: there are few."""
    return zlib.compress(
        b"".join(id.encode() + b"\0" + np.packbits(rows).tobytes() for id, rows in sorted(dead.items()))
    )


def unpacked(data: bytes, segments: Iterable[Written]) -> Dead:
    """What `packed` was given; `segments` are all of the state."""
    rest, rows_of, dead = zlib.decompress(data), {written.id: written.rows for written in segments}, {}
    while rest:
        name, _, rest = rest.partition(b"\0")
        rows = rows_of[name.decode()]
        size = (rows + 7) // 8
        dead[name.decode()] = np.unpackbits(np.frombuffer(rest[:size], dtype=np.uint8), count=rows).astype(bool)
        rest = rest[size:]
    return dead


class Sealing(Protocol):
    """How the indexer seals: into segments, or into an engine."""

    made: set[str]  # segments or runs written on the way to a state; not all of them are in it

    def sealed(self, vector_set: VectorSet) -> VectorSet:
        """The set with its tail sealed, and an empty one."""
        ...

    def tidied(self, vector_set: VectorSet, kept: Sequence[State]) -> VectorSet:
        """The sealed set in fewer parts, or without what none of the `kept` states sees."""
        ...


class SegmentSealing:
    """Into segments under `root`. The smallest size is what is sealed together: `seal_at` rows."""

    def __init__(self, gallery: Gallery, root: DataRoot, seal_at: int, most: int) -> None:
        self._gallery, self._root = gallery, root
        self._seal_at, self._most = seal_at, most
        self.made: set[str] = set()

    def sealed(self, vector_set: VectorSet) -> VectorSet:
        """As `Sealing.sealed`; if more follow at once, without an index, as the segment is merged then."""
        keys, entries, vectors = vector_set.tail.block()
        if not len(keys):
            return vector_set
        columns = Columns.sorted(keys, entries, vectors)
        part = self._written(vector_set.identity, columns, scan=len(keys) >= self._most)
        tail = MemoryTail.empty(vector_set.identity.dimension)
        return replace(vector_set, parts=(*vector_set.parts, part), tail=tail)

    def tidied(self, vector_set: VectorSet, kept: Sequence[State]) -> VectorSet:
        """As `Sealing.tidied`; segments of `kept` states stay on the disk."""
        parts: list[Part] = [part for part in vector_set.parts if part.count]
        while group := _to_merge(parts, self._seal_at):
            columns = segment.merged([part.columns() for part in group])
            parts = [part for part in parts if part not in group]
            parts.append(self._written(vector_set.identity, columns))
        return replace(vector_set, parts=tuple(parts))

    def _written(self, identity: Identity, columns: Columns, *, scan: bool = False) -> Segment:
        """A new segment, written and opened: what is registered can be read.

        Another process may remove it before it is registered, as left over: then it is written again.
        """
        queries = texts_as_asked(self._gallery, identity)
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, IndexFileCorrupt):
                written = segment.write(self._root, identity, columns, queries, scan)
                self.made.add(written.id)
                return segment.read(self._root, written, identity)
        raise IndexFileCorrupt("the files of a new segment cannot be read, or are removed all the time")


def texts_as_asked(gallery: Gallery, identity: Identity) -> Matrix | None:
    """Texts as people search with, for the set of pictures; None without enough of them."""
    vectors = gallery.some_caption_vectors(ivf.QUERIES) if identity.kind == "pictures" else []
    fitting = [vector for vector in vectors if len(vector) == identity.dimension]
    return np.stack(fitting) if len(fitting) == ivf.QUERIES else None


def _to_merge(parts: Iterable[Part], seal_at: int) -> list[Segment]:
    """Segments to be written as one: enough of one size, or one with many dead rows; empty when there are none.

    The smallest size is what is sealed together: `seal_at` rows.
    """
    tiers: dict[int, list[Segment]] = {}
    if without_index := _bare(parts):
        return without_index
    for part in parts:
        assert isinstance(part, Segment)
        if len(part.keys) - part.count > max(_DEAD * len(part.keys), 1):
            return [part]
        tiers.setdefault(max(-1, floor(log(part.count / seal_at, _TIER))), []).append(part)
    return next((tiers[tier] for tier in sorted(tiers) if len(tiers[tier]) >= _TIER), [])


def _bare(parts: Iterable[Part]) -> list[Segment]:
    """Segments that have no index because they were to be merged at once."""
    return [part for part in parts if isinstance(part, Segment) and part.exact and len(part.keys) > ivf.SCAN_LIMIT]
