"""Immutable sets of vectors that are searched: a generation plus what changed since. Knows no files and no database.

A score depends on the two vectors alone: engines only propose candidates, and every one of them is scored here again in
double precision. So neither the engine, nor compaction, nor a neighbour in the index can change a score or an order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from index.engine import Index, Matrix, Rows, Vector
from index.engine.faiss_engine import FlatIndex

_MARGIN = 16  # candidates beyond what is asked for, so that one round nearly always proves the answer
_APPROXIMATE_FACTOR = 4  # the same for an engine that quantises


class Entry(NamedTuple):
    """What one vector stands for: a picture (text is empty) or one of its captions."""

    picture: str
    text: str = ""


class Hit(NamedTuple):
    """An entry and its score: the inner product in double precision, rounded once to float32."""

    entry: Entry
    score: float


@dataclass(frozen=True)
class Block:
    """Everything one picture has in a set: entries and their vectors (n, dimension). Empty: nothing (any more)."""

    entries: tuple[Entry, ...]
    vectors: Matrix


@dataclass(frozen=True)
class Segment:
    """Vectors (n, dimension), what they stand for, and an index over them."""

    vectors: Matrix
    entries: Sequence[Entry]
    index: Index

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """The rows of each picture."""
        found: dict[str, list[int]] = {}
        for row, entry in enumerate(self.entries):
            found.setdefault(entry.picture, []).append(row)
        return found

    def top(self, query: Vector, k: int, excluded: frozenset[int]) -> list[Hit]:
        """The best `k` by score, ties by entry. Exactly those of a full scan when the index is exact."""
        available = len(self.entries) - len(excluded)
        k = min(k, available)
        asked = k + _MARGIN if self.index.exact else _APPROXIMATE_FACTOR * k + _MARGIN
        while k > 0:
            candidates = self.index.search(query, min(asked, available), excluded)
            hits = self._scored(query, candidates.rows)[:k]
            if not self.index.exact or asked >= available or not len(candidates.rows):
                return hits
            # What the engine left out scored no better than its last candidate, but for rounding
            if hits[-1].score > float(candidates.scores[-1]) + self._rounding:
                return hits
            asked *= 2
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
    """Inner products (n,) that depend on nothing but the two vectors: double precision, row by row, rounded once."""
    products = vectors.astype(np.float64) * query.astype(np.float64)  # (n, dimension)
    found: np.ndarray[tuple[int], np.dtype[np.float32]] = products.sum(axis=1).astype(np.float32)
    return found


@dataclass(frozen=True)
class VectorSet:
    """A generation without its overwritten rows, plus the overlay: pictures that changed since. All immutable.

    `generation` names the generation; `change` is the last change of the gallery that this set has taken in.
    """

    generation: str
    change: int
    base: Segment
    overlay: Segment
    removed: frozenset[int] = field(default_factory=frozenset)  # rows of `base`

    @staticmethod
    def over(generation: str, change: int, base: Segment) -> "VectorSet":
        """A generation as it was written, with nothing changed since."""
        return VectorSet(generation, change, base, segment(base.vectors[:0], ()))

    @staticmethod
    def empty(name: str, dimension: int) -> "VectorSet":
        """A set that no generation stands for yet, before the first change."""
        return VectorSet.over(name, 0, segment(np.empty((0, dimension), dtype=np.float32), ()))

    @property
    def count(self) -> int:
        """How many entries can be found."""
        return len(self.base.entries) - len(self.removed) + len(self.overlay.entries)

    @property
    def overlay_size(self) -> int:
        """How much a compaction would fold: changed and removed entries."""
        return len(self.removed) + len(self.overlay.entries)

    def search(self, query: Vector, k: int) -> list[Hit]:
        """The `k` entries of highest score, ties by entry."""
        hits = self.base.top(query, k, self.removed) + self.overlay.top(query, k, frozenset())
        return sorted(hits, key=lambda hit: (-hit.score, hit.entry))[:k]

    def of(self, picture: str) -> list[Entry]:
        """The entries of one picture."""
        return [entry for entry, _ in self._rows(picture)]

    def vector(self, picture: str) -> Vector | None:
        """The vector of a picture's first entry; None when the set has none."""
        for _, vector in self._rows(picture):
            return vector
        return None

    def texts(self) -> list[str]:
        """The texts of all entries."""
        kept = [entry.text for row, entry in enumerate(self.base.entries) if row not in self.removed]
        return kept + [entry.text for entry in self.overlay.entries]

    def live(self) -> tuple[list[Entry], Matrix]:
        """All entries that can be found, sorted, and their vectors: what a compaction writes."""
        kept = np.array([row for row in range(len(self.base.entries)) if row not in self.removed], dtype=np.int64)
        entries = [self.base.entries[row] for row in kept] + list(self.overlay.entries)
        vectors = np.concatenate([self.base.vectors[kept], self.overlay.vectors])
        order = sorted(range(len(entries)), key=entries.__getitem__)
        return [entries[place] for place in order], vectors[order]

    def changed(self, blocks: Mapping[str, Block], change: int) -> "VectorSet":
        """Another set in which each picture of `blocks` has exactly its block, as of `change`."""
        blocks = {picture: block for picture, block in blocks.items() if block.entries or self._rows(picture)}
        if not blocks:
            return replace(self, change=change)
        replaced = {row for picture in blocks for row in self.base.rows.get(picture, ())}
        kept = [row for row, entry in enumerate(self.overlay.entries) if entry.picture not in blocks]
        added = [block for block in blocks.values() if block.entries]
        entries = [self.overlay.entries[row] for row in kept]
        entries += [entry for block in added for entry in block.entries]
        vectors = np.concatenate([self.overlay.vectors[kept], *(block.vectors for block in added)])
        overlay = segment(vectors, entries)
        return VectorSet(self.generation, change, self.base, overlay, self.removed | replaced)

    def _rows(self, picture: str) -> list[tuple[Entry, Vector]]:
        rows = [row for row in self.base.rows.get(picture, ()) if row not in self.removed]
        found = [(self.base.entries[row], self.base.vectors[row]) for row in rows]
        changed = self.overlay.rows.get(picture, ())
        return found + [(self.overlay.entries[row], self.overlay.vectors[row]) for row in changed]


def segment(vectors: Matrix, entries: Sequence[Entry]) -> Segment:
    """A segment that is scanned, which takes no time to make."""
    vectors = np.ascontiguousarray(vectors)
    return Segment(vectors, entries, FlatIndex(vectors))
