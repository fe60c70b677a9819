"""Immutable vector sets that are searched: a generation plus its tail of later changes. Reads no files and no database.

A score depends only on the two vectors: engines propose candidates, and each candidate is scored here again in double
precision. So neither the engine, nor compaction, nor other vectors in the index can change a score or the order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from index.engine import Index, Matrix, Rows, Vector
from index.engine.faiss_engine import FlatIndex

_MARGIN = 16  # more candidates than hits, so that one search nearly always proves that the hits are the best
_APPROXIMATE_FACTOR = 4  # candidates for each hit, for an approximate index


class Entry(NamedTuple):
    """What one vector represents: a picture (`text` is empty) or one of its captions."""

    picture: str
    text: str = ""


class Hit(NamedTuple):
    """An entry and its score: the inner product in double precision, rounded once to float32."""

    entry: Entry
    score: float


@dataclass(frozen=True)
class Block:
    """All entries of one picture in a set, and their vectors (n, dimension); empty when it has none (any more)."""

    entries: tuple[Entry, ...]
    vectors: Matrix


@dataclass(frozen=True)
class Segment:
    """Vectors (n, dimension), their entries, and an index over them."""

    vectors: Matrix
    entries: Sequence[Entry]
    index: Index

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """The rows of each picture."""
        by_picture: dict[str, list[int]] = {}
        for row, entry in enumerate(self.entries):
            by_picture.setdefault(entry.picture, []).append(row)
        return by_picture

    def top(self, query: Vector, k: int, excluded: frozenset[int]) -> list[Hit]:
        """The `k` entries with the highest scores, ties by entry; the same as a full scan when the index is exact."""
        available = len(self.entries) - len(excluded)
        k = min(k, available)
        limit = k + _MARGIN if self.index.exact else _APPROXIMATE_FACTOR * k + _MARGIN
        while k > 0:
            candidates = self.index.search(query, min(limit, available), excluded)
            hits = self._scored(query, candidates.rows)[:k]
            if not self.index.exact or limit >= available or not len(candidates.rows):
                return hits
            # Except for rounding, no row outside the candidates scores higher than the last candidate
            if hits[-1].score > float(candidates.scores[-1]) + self._rounding:
                return hits
            limit *= 2
        return []

    @property
    def _rounding(self) -> float:
        """Bound on the error of a float32 inner product of unit vectors."""
        return float(self.vectors.shape[1] * np.finfo(np.float32).eps)

    def _scored(self, query: Vector, rows: Rows) -> list[Hit]:
        values = scores(query, self.vectors[rows])
        hits = [Hit(self.entries[row], float(value)) for row, value in zip(rows, values, strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.entry))


def scores(query: Vector, vectors: Matrix) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Inner products (n,), each computed from its two vectors alone: in double precision, rounded once to float32."""
    products = vectors.astype(np.float64) * query.astype(np.float64)  # (n, dimension)
    rounded: np.ndarray[tuple[int], np.dtype[np.float32]] = products.sum(axis=1).astype(np.float32)
    return rounded


@dataclass(frozen=True)
class VectorSet:
    """A sealed generation without its removed rows, plus a tail of pictures that changed since. All immutable.

    `generation` is the id of the generation; `change` is the last change of the gallery that is in this set. `damaged`
    when a newer generation could not be read: a new one must be written.
    """

    generation: str
    change: int
    sealed: Segment
    tail: Segment
    removed: frozenset[int] = field(default_factory=frozenset)  # rows of `sealed`
    damaged: bool = False

    @staticmethod
    def from_generation(generation: str, change: int, sealed: Segment) -> "VectorSet":
        """A generation as it was written, with an empty tail."""
        return VectorSet(generation, change, sealed, segment(sealed.vectors[:0], ()))

    @staticmethod
    def empty(name: str, dimension: int) -> "VectorSet":
        """An empty set without a generation on disk, before the first change."""
        return VectorSet.from_generation(name, 0, segment(np.empty((0, dimension), dtype=np.float32), ()))

    @property
    def count(self) -> int:
        """How many entries the set has."""
        return len(self.sealed.entries) - len(self.removed) + len(self.tail.entries)

    @property
    def tail_size(self) -> int:
        """How many added and removed entries a compaction would merge into a new generation."""
        return len(self.removed) + len(self.tail.entries)

    def search(self, query: Vector, k: int) -> list[Hit]:
        """The `k` entries with the highest scores, ties by entry."""
        hits = self.sealed.top(query, k, self.removed) + self.tail.top(query, k, frozenset())
        return sorted(hits, key=lambda hit: (-hit.score, hit.entry))[:k]

    def entries_of(self, picture: str) -> list[Entry]:
        """The entries of one picture."""
        return [entry for entry, _ in self._rows(picture)]

    def vector(self, picture: str) -> Vector | None:
        """The vector of a picture's first entry; None when the set has none."""
        for _, vector in self._rows(picture):
            return vector
        return None

    def texts(self) -> list[str]:
        """The texts of all entries."""
        kept = [entry.text for row, entry in enumerate(self.sealed.entries) if row not in self.removed]
        return kept + [entry.text for entry in self.tail.entries]

    def merged(self) -> tuple[list[Entry], Matrix]:
        """All entries, sorted, and their vectors: what a compaction writes."""
        kept = np.array([row for row in range(len(self.sealed.entries)) if row not in self.removed], dtype=np.int64)
        entries = [self.sealed.entries[row] for row in kept] + list(self.tail.entries)
        vectors = np.concatenate([self.sealed.vectors[kept], self.tail.vectors])
        order = sorted(range(len(entries)), key=entries.__getitem__)
        return [entries[row] for row in order], vectors[order]

    def changed(self, blocks: Mapping[str, Block], change: int) -> "VectorSet":
        """A new set in which each picture of `blocks` has exactly its block; its last change is `change`."""
        blocks = {picture: block for picture, block in blocks.items() if block.entries or self._rows(picture)}
        if not blocks:
            return replace(self, change=change)
        replaced = {row for picture in blocks for row in self.sealed.rows.get(picture, ())}
        kept = [row for row, entry in enumerate(self.tail.entries) if entry.picture not in blocks]
        added = [block for block in blocks.values() if block.entries]
        entries = [self.tail.entries[row] for row in kept]
        entries += [entry for block in added for entry in block.entries]
        vectors = np.concatenate([self.tail.vectors[kept], *(block.vectors for block in added)])
        tail = segment(vectors, entries)
        return replace(self, change=change, tail=tail, removed=self.removed | replaced)

    def _rows(self, picture: str) -> list[tuple[Entry, Vector]]:
        rows = [row for row in self.sealed.rows.get(picture, ()) if row not in self.removed]
        sealed = [(self.sealed.entries[row], self.sealed.vectors[row]) for row in rows]
        tail_rows = self.tail.rows.get(picture, ())
        return sealed + [(self.tail.entries[row], self.tail.vectors[row]) for row in tail_rows]


def segment(vectors: Matrix, entries: Sequence[Entry]) -> Segment:
    """A segment that is searched by an exact scan, so that no index need be built."""
    vectors = np.ascontiguousarray(vectors)
    return Segment(vectors, entries, FlatIndex(vectors))
