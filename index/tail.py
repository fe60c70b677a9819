"""The tail of a vector set: what changed since it was sealed, in memory, searched by an exact scan.

Views share one log that only grows. A view sees the rows that had been added, and not yet been replaced or deleted,
when it was made: so a change costs the same however long the tail is, and older views answer as before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from index.vectors import Candidates, Entry, Keys, Matrix, Vector, VectorRows, is_among

_CAPACITY = 256  # rows at first; doubled when they are used
_NEVER = np.iinfo(np.int64).max


@dataclass
class _Log:
    """Rows in the order in which they came. `died` has the moment at which a row was replaced or deleted."""

    vectors: Matrix  # (capacity, dimension)
    keys: Keys  # (capacity,), not rising
    died: NDArray[np.int64]  # (capacity,)
    entries: list[Entry] = field(default_factory=list)
    rows: dict[str, list[int]] = field(default_factory=dict)
    living: int = 0  # rows that the newest view has
    moment: int = 0
    lock: Lock = field(default_factory=Lock)

    def add(self, added: VectorRows) -> None:
        start, end = len(self.entries), len(self.entries) + len(added.entries)
        if end > len(self.keys):
            self._grow(max(2 * len(self.keys), end))
        self.vectors[start:end], self.keys[start:end] = added.vectors, added.keys
        for row, entry in enumerate(added.entries, start):
            self.rows.setdefault(entry.picture, []).append(row)
        self.entries += added.entries
        self.living += len(added.entries)

    def bury(self, picture: str, moment: int) -> None:
        for row in reversed(self.rows.get(picture, ())):
            if self.died[row] != _NEVER:
                break  # all rows of a picture die together
            self.died[row] = moment
            self.living -= 1

    def _grow(self, capacity: int) -> None:
        """Copy into longer arrays: views keep those that they have, in which nothing that they can see changes."""
        more = capacity - len(self.keys)
        self.vectors = np.concatenate([self.vectors, np.empty((more, self.vectors.shape[1]), dtype=np.float32)])
        self.keys = np.concatenate([self.keys, np.empty(more, dtype=np.int64)])
        self.died = np.concatenate([self.died, np.full(more, _NEVER)])


class MemoryTail:
    """View of a log: the `Part` that takes in changes."""

    exact = True

    def __init__(self, log: _Log) -> None:
        self._log, self._moment, self._length = log, log.moment, len(log.entries)
        self._vectors, self._keys, self._died = log.vectors, log.keys, log.died

    @classmethod
    def make_empty(cls, dimension: int) -> "MemoryTail":
        """Make a tail without rows."""
        vectors = np.empty((_CAPACITY, dimension), dtype=np.float32)
        return cls(_Log(vectors, np.empty(_CAPACITY, dtype=np.int64), np.full(_CAPACITY, _NEVER)))

    @property
    def count(self) -> int:
        return len(self._alive)

    @cached_property
    def _alive(self) -> NDArray[np.int64]:
        """Rows of this view."""
        return np.flatnonzero(self._died[: self._length] > self._moment)

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: Keys | None = None) -> Candidates:
        rows = self._alive
        if allowed is not None:
            rows = rows[is_among(self._keys[rows], allowed)]
        # not a matrix product: that would wait for the other threads of BLAS, while an indexer has the processors
        products = np.einsum("nd,d->n", self._vectors[: self._length], query)
        values = products[rows]
        if len(rows) > limit:
            nearest = np.argpartition(-values, limit - 1)[:limit]
            rows, values = rows[nearest], values[nearest]
        order = np.argsort(-values, kind="stable")
        rows, values = rows[order], values[order]
        entries = self._log.entries
        return Candidates(values, self._vectors[rows], lambda number: entries[rows[number]], exact=True)

    def read_rows(self, picture: str) -> VectorRows:
        return self._take_rows(np.array(self._find_rows(picture), dtype=np.int64)).sort_by_key()

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        rows = (row for picture in pictures for row in self._find_rows(picture))
        return [(int(self._keys[row]), self._log.entries[row]) for row in rows]

    def exclude_pictures(self, pictures: Collection[str]) -> "MemoryTail":
        nothing = VectorRows.make_empty(self._vectors.shape[1])
        return self.replace_rows({picture: nothing for picture in pictures if self._find_rows(picture)})

    def replace_rows(self, rows: Mapping[str, VectorRows]) -> "MemoryTail":
        """Return the tail in which each of these pictures has exactly these rows; costs no more when it is longer.

        Only the newest view can add to the log that it shares. Another one gets a copy, as does one whose log is mostly
        dead rows: a picture may change again and again before it is sealed.
        """
        with self._log.lock:
            newest = self._moment == self._log.moment
            crowded = len(self._log.entries) > 2 * self._log.living + _CAPACITY
            log = self._log
            if crowded or not newest:
                log = MemoryTail.make_empty(self._vectors.shape[1])._log
                log.add(self.read_all_rows())
            moment = log.moment = log.moment + 1  # first: if this fails, what it left here is in no view
            for picture, added in rows.items():
                log.bury(picture, moment)
                log.add(added)
            return MemoryTail(log)

    def read_all_rows(self) -> VectorRows:
        """Return all its rows, in the order in which they came."""
        return self._take_rows(self._alive)

    def _take_rows(self, rows: NDArray[np.int64]) -> VectorRows:
        return VectorRows(self._keys[rows], [self._log.entries[row] for row in rows.tolist()], self._vectors[rows])

    def get_depth(self, hits: int) -> int | None:
        return None

    def _find_rows(self, picture: str) -> list[int]:
        found = []
        for row in reversed(self._log.rows.get(picture, ())):
            if row < self._length:
                if self._died[row] <= self._moment:
                    break  # all rows of a picture die together
                found.append(row)
        return found[::-1]
