"""A state of a vector set: which segments, or runs in an engine, are sealed, and which of their rows are dead.

The registry keeps the dead rows in a few bytes, compressed.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.engine import is_run
from index.engine.part import EnginePart
from index.segment import Segment, Written
from index.vectors import VectorSet

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
