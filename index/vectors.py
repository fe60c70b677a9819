"""Vector sets: immutable; parts that engines search, and a tail of what changed since. Reads no files.

A score depends only on the two vectors: a part proposes candidates together with their vectors, and each candidate is
scored here again in double precision. So neither the engine, nor sealing and merging, nor other vectors can change a
score or the order.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from index.tail import MemoryTail

Matrix = NDArray[np.float32]  # (n, dimension), rows of unit length
Vector = NDArray[np.float32]  # (dimension,)
Keys = NDArray[np.int64]  # (n,), rising: one for each picture or caption
Halves = NDArray[np.float16]  # (n, dimension), as they are stored
_CHUNK = 128  # vectors in double precision at a time: what does not stay in the cache takes four times as long
_MARGIN = 16  # more candidates than hits, so that one search nearly always proves that the hits are the best
_APPROXIMATE_FACTOR = 4  # candidates for each hit, for an approximate part


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

    keys: Keys
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

    def find_candidates(self, query: Vector, limit: int, hits: int, allowed: Keys | None = None) -> Candidates:
        """Propose at most `limit` rows with the highest inner products with `query`, among those with an `allowed` key.

        `hits` of them are wanted: an approximate part searches as deep as that needs.
        """

    def read_rows(self, picture: str) -> VectorRows:
        """Return the rows of one picture, by key."""

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        """Return key and entry of every row of these pictures; read no vectors."""

    def exclude_pictures(self, pictures: Collection[str]) -> Self:
        """Return the part without the rows of these pictures; itself when it has none."""


def is_among(keys: Keys, others: Keys) -> NDArray[np.bool_]:
    """Whether each of `keys`, in any order, is among `others`, which ascend: (n,)."""
    if not len(others):
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    found: NDArray[np.bool_] = others[places] == keys
    return found


def compute_scores(query: Vector, vectors: Matrix | Halves) -> NDArray[np.float32]:
    """Compute inner products (n,), each from its two vectors alone: in double precision, rounded once to float32.

    They are at most 1: halves are of unit length up to rounding only.
    """
    rounded, wide = np.empty(len(vectors), dtype=np.float32), query.astype(np.float64)
    for start in range(0, len(vectors), _CHUNK):
        products = vectors[start : start + _CHUNK].astype(np.float64) * wide  # (chunk, dimension)
        rounded[start : start + _CHUNK] = np.minimum(products.sum(axis=1), 1.0)
    return rounded


def find_best(part: Part, query: Vector, k: int, allowed: Keys | None = None) -> list[Hit]:
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
    tail: "MemoryTail"
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

    def search(self, query: Vector, k: int, allowed: Keys | None = None) -> list[Hit]:
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
