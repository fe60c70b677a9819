"""Vector sets: immutable; parts that engines search, and a tail of what changed since. Reads no files.

A score depends only on the two vectors: a part proposes candidates together with their vectors, and each candidate is
scored here again in double precision. So neither the engine, nor sealing and merging, nor other vectors can change a
score or the order.

The tail is in memory, searched by an exact scan. Its views share one log that only grows: a view sees the rows that had
been added, and not yet been replaced or deleted, when it was made. So a change costs the same however long the tail is,
and older views answer as before.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]  # (n, dimension), rows of unit length
Vector = NDArray[np.float32]  # (dimension,)
VectorKeys = NDArray[np.int64]  # (n,), rising: one for each picture or caption
Halves = NDArray[np.float16]  # (n, dimension), as they are stored
_CHUNK = 128  # vectors in double precision at a time: what does not stay in the cache takes four times as long
_MARGIN = 16  # more candidates than hits, so that one search nearly always proves that the hits are the best
_APPROXIMATE_FACTOR = 4  # candidates for each hit, for an approximate part
_CAPACITY = 256  # rows at first; doubled when they are used
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Identity:
    """Kind of a vector set: pictures, or captions of one (language, version); and what computed the vectors."""

    kind: Literal["pictures", "captions"]
    fingerprint: str
    dimension: int
    language: str | None = None
    version: int | None = None

    @property
    def name(self) -> str:
        """Short name, for answers and messages."""
        of = () if self.language is None else (self.language, str(self.version))
        return "-".join((self.kind, *of, self.fingerprint[:8]))


class Entry(NamedTuple):
    """What one vector represents: a picture (`text` is empty) or one of its captions."""

    picture: str
    text: str = ""


class Hit(NamedTuple):
    """Entry with its score: the inner product in double precision, rounded once to float32."""

    entry: Entry
    score: float


@dataclass(frozen=True)
class VectorRows:
    """Rows of a set: keys, none of which ever gets another vector, what they represent, and vectors (n, dimension)."""

    keys: VectorKeys
    entries: Sequence[Entry]
    vectors: Matrix | Halves

    def __len__(self) -> int:
        return len(self.keys)

    @staticmethod
    def make_empty(dimension: int) -> "VectorRows":
        """Make no rows, as of a picture that was deleted."""
        return VectorRows(np.empty(0, dtype=np.int64), (), np.empty((0, dimension), dtype=np.float32))

    @staticmethod
    def merge(several: Sequence["VectorRows"]) -> "VectorRows":
        """Join several, sorted by key."""
        keys, vectors = (
            np.concatenate(each) for each in zip(*((rows.keys, rows.vectors) for rows in several), strict=True)
        )
        return VectorRows(keys, [entry for rows in several for entry in rows.entries], vectors).sort_by_key()

    def sort_by_key(self) -> "VectorRows":
        """Return these rows by key; without a copy when they are in this order already."""
        rising = np.all(self.keys[1:] > self.keys[:-1])
        return self if rising else self.take(np.argsort(self.keys, kind="stable"))

    def take(self, numbers: NDArray[np.int64]) -> "VectorRows":
        """Return some of these rows, in the order given."""
        return VectorRows(self.keys[numbers], [self.entries[row] for row in numbers.tolist()], self.vectors[numbers])


@dataclass(frozen=True)
class Candidates:
    """Proposals of a part, best first by its own scores (c,): vectors (c, dimension), and a look-up of the nth entry.

    When it is `exact`, these scores are inner products up to float32 rounding, and no better row is missing.
    """

    scores: NDArray[np.float32]
    vectors: Matrix | Halves
    entry: Callable[[int], Entry]
    exact: bool


class Part(Protocol):
    """Part of a vector set, immutable and thread-safe; the protocol of all engines."""

    @property
    def exact(self) -> bool:
        """Whether its candidates are always exact; an approximate part's may be, when few rows are allowed."""

    @property
    def count(self) -> int:
        """Number of its rows."""

    def get_depth(self, hits: int) -> int | None:
        """Return how many lists or candidates a search for so many hits looks at; None for a scan, or if unknown."""

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: VectorKeys | None = None) -> Candidates:
        """Propose at most `limit` rows with the highest inner products with `query`, among those with an `allowed` key.

        `hits` of them are wanted: an approximate part searches as deep as that needs.
        """

    def read_rows(self, picture: str) -> VectorRows:
        """Return the rows of one picture, by key."""

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        """Return key and entry of every row of these pictures; read no vectors."""

    def exclude_pictures(self, pictures: Collection[str]) -> Self:
        """Return the part without the rows of these pictures; itself when it has none."""


def is_among(keys: VectorKeys, others: VectorKeys) -> NDArray[np.bool_]:
    """Whether each of `keys`, in any order, is among `others`, which ascend: (n,)."""
    if not len(others):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    found: NDArray[np.bool_] = others[places] == keys
    return found


def mark_first_occurrences(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark those of sorted numbers that are unlike the one before."""
    first = np.ones(len(numbers), dtype=bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return first


def drop_repeated(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return sorted numbers, each once; NumPy's own `unique` takes many times as long."""
    return numbers[mark_first_occurrences(numbers)]


def compute_scores(query: Vector, vectors: Matrix | Halves) -> NDArray[np.float32]:
    """Compute inner products (n,), each from its two vectors alone: in double precision, rounded once to float32.

    They are at most 1: halves are of unit length up to rounding only.
    """
    rounded, wide = np.empty(len(vectors), dtype=np.float32), query.astype(np.float64)
    for start in range(0, len(vectors), _CHUNK):
        products = vectors[start : start + _CHUNK].astype(np.float64) * wide  # (chunk, dimension)
        rounded[start : start + _CHUNK] = np.minimum(products.sum(axis=1), 1.0)
    return rounded


def find_best(part: Part, query: Vector, k: int, allowed: VectorKeys | None = None) -> list[Hit]:
    """Return the `k` entries with the highest scores, ties by entry; as a full scan does when candidates are exact."""
    available = part.count
    k = min(k, available)
    limit = k + _MARGIN if part.exact else _APPROXIMATE_FACTOR * k + _MARGIN
    while k > 0:
        candidates = part.find_candidates(query, min(limit, available), k, allowed)
        hits = _score_candidates(query, candidates, k)
        if not candidates.exact or limit >= available or len(candidates.scores) < limit or not hits:
            return hits
        # Except for rounding, no row outside the candidates scores higher than the last candidate
        rounding = len(query) * float(np.finfo(np.float32).eps)  # at most, of a product of unit vectors
        if len(hits) == k and hits[-1].score > float(candidates.scores[-1]) + rounding:
            return hits
        limit *= 2
    return []


def _score_candidates(query: Vector, candidates: Candidates, k: int) -> list[Hit]:
    values = compute_scores(query, candidates.vectors)
    if len(values) > k:  # entries are looked up for hits only, and for what ties with the last of them
        least = np.partition(values, len(values) - k)[len(values) - k]
        numbers = np.flatnonzero(values >= least)
    else:
        numbers = np.arange(len(values))
    hits = [Hit(candidates.entry(int(number)), float(values[number])) for number in numbers]
    return sorted(hits, key=_rank)[:k]


def _rank(hit: Hit) -> tuple[float, Entry]:
    return -hit.score, hit.entry


@dataclass
class _Log:
    """Rows in the order in which they came. `died` has the moment at which a row was replaced or deleted."""

    vectors: Matrix  # (capacity, dimension)
    keys: VectorKeys  # (capacity,), not rising
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
        return np.flatnonzero(self._died[: self._length] > self._moment)

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: VectorKeys | None = None) -> Candidates:
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


@dataclass(frozen=True)
class VectorSet:
    """All vectors of one identity at one change of the gallery.

    `state` is the number of what is sealed of it, 0 for nothing; `change` is the last change of the gallery that is in
    it. `problems` has a sentence for each segment that could not be read: it has to be made again. The rows
    of a `remote` set are in another process, which is not asked whether a picture that was put is still the same.
    """

    identity: Identity
    state: int
    change: int
    parts: tuple[Part, ...]
    tail: MemoryTail
    waiting: int = 0  # pictures that changed since it was sealed, at most: how much there is to seal
    problems: tuple[str, ...] = ()
    remote: bool = False

    @property
    def generation(self) -> str:
        """Name of the set with the last change of the gallery that is in it."""
        return f"{self.identity.name}.{self.change}"

    @property
    def count(self) -> int:
        """Number of its entries."""
        return self.tail.count + sum(part.count for part in self.parts)

    def search(self, query: Vector, k: int, allowed: VectorKeys | None = None) -> list[Hit]:
        """Return the `k` entries with the highest scores, ties by entry; only those with an `allowed` key, if given."""
        hits = [hit for part in (*self.parts, self.tail) for hit in find_best(part, query, k, allowed)]
        return sorted(hits, key=_rank)[:k]

    def read_rows(self, picture: str) -> VectorRows:
        """Return the rows of one picture, in the order in which they were added."""
        return VectorRows.merge([part.read_rows(picture) for part in (*self.parts, self.tail)])

    def list_texts(self, pictures: Collection[str]) -> dict[str, list[str]]:
        """Return the texts of each of these pictures, in the order in which they were added."""
        texts: dict[str, list[str]] = {picture: [] for picture in pictures}
        for _, entry in sorted(self._list_entries(pictures)):
            texts[entry.picture].append(entry.text)
        return texts

    def replace_rows(self, rows: Mapping[str, VectorRows], change: int) -> "VectorSet":
        """Return a new set in which each of these pictures has exactly these rows; its last change is `change`."""
        if not self.remote:
            before: dict[str, set[tuple[int, Entry]]] = {picture: set() for picture in rows}
            for key, entry in self._list_entries(rows):
                before[entry.picture].add((key, entry))
            now = {of: {*zip(each.keys.tolist(), each.entries, strict=True)} for of, each in rows.items()}
            rows = {picture: each for picture, each in rows.items() if now[picture] != before[picture]}
        if not rows:
            return replace(self, change=change)
        parts = tuple(part.exclude_pictures(rows) for part in self.parts)
        tail, waiting = self.tail.replace_rows(rows), self.waiting + len(rows)
        return replace(self, change=change, parts=parts, tail=tail, waiting=waiting)

    def _list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        return [row for part in (*self.parts, self.tail) for row in part.list_entries(pictures)]
