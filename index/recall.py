"""Measures how many of the nearest pictures searches find, for people: it changes no search."""

from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from index import ivf
from index.engine import EnginePart
from index.gallery import Gallery
from index.segment import Segment
from index.tail import MemoryTail
from index.vectors import Hit, Matrix, VectorSet

_K = 10
_QUERIES = 100
SAMPLE = 131_072  # pictures that an engine's answers are compared with
_ROUNDING = 1e-4  # between scores in float32 and ours


@dataclass(frozen=True)
class Recall:
    """The share of the ten nearest pictures that `queries` searches found; by captions of the gallery, or made-up.

    `depth` is the most that is searched of a part of the index for ten hits: lists of a segment, or candidates of
    pgvector's graph; None where all is compared, or Milvus decides.
    """

    share: float
    queries: int
    captions: bool
    depth: int | None
    unit: Literal["lists", "candidates"] | None


def measure(pictures: VectorSet, gallery: Gallery) -> Recall | None:
    """Search with captions of the gallery, or without any with made-up texts; None for an empty set.

    By score, not by picture: of equal pictures any is as good. Raises `IndexUnavailable`.
    """
    parts = [part for part in (*pictures.parts, pictures.tail) if part.count]
    held = [part for part in parts if isinstance(part, Segment | MemoryTail)]
    dimension, k = pictures.identity.dimension, min(_K, pictures.count)
    asked = [vector for vector in gallery.some_caption_vectors(_QUERIES) if len(vector) == dimension]
    queries = np.stack(asked) if asked else None
    if len(held) < len(parts):
        found = _by_sample(pictures, gallery, queries, k)
    elif held:
        found = _by_scan(pictures, held, queries, k)
    else:
        found = None
    if found is None:
        return None
    depth = max((depth for part in parts if (depth := part.depth(k)) is not None), default=None)
    in_engine = any(isinstance(part, EnginePart) for part in parts)
    unit: Literal["lists", "candidates"] = "candidates" if in_engine else "lists"
    return Recall(round(found[0], 4), found[1], bool(asked), depth, None if depth is None else unit)


class KnownRecall:
    """The recall of a set, measured again only when something else is sealed of it: a tail is compared exactly."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._measuring = Lock()  # one at a time: it takes a core for seconds
        self._known: tuple[object, Recall] | None = None

    def of(self, pictures: VectorSet, *, anew: bool) -> Recall | None:
        """As `measure`; not `anew`, what was measured of the same sealed rows is told again."""
        sealed = pictures.identity, pictures.state
        with self._measuring:
            if not anew and self._known is not None and self._known[0] == sealed:
                return self._known[1]
            found = measure(pictures, self._gallery)
            self._known = None if found is None else (sealed, found)
            return found


def _by_scan(
    pictures: VectorSet, parts: list[Segment | MemoryTail], queries: Matrix | None, k: int
) -> tuple[float, int]:
    """The share that is found, and by how many queries, against all vectors; without a copy of a segment."""
    if queries is None:
        first = parts[0]
        rows = np.arange(first.count) if first.alive is None else np.flatnonzero(first.alive)
        rows = rows[:: max(1, first.count // _QUERIES)][:_QUERIES]
        queries = ivf.made_up_queries(first.vectors[rows].astype(np.float16))
    best = [ivf.highest(part.vectors, queries, min(k, part.count), part.alive) for part in parts]
    least = -np.sort(-np.concatenate(best, axis=1), axis=1)[:, k - 1] - _ROUNDING
    answers = _answers(pictures, queries, k)
    found = sum(hit.score >= lowest for hits, lowest in zip(answers, least, strict=True) for hit in hits)
    return found / (k * len(queries)), len(queries)


def _by_sample(pictures: VectorSet, gallery: Gallery, queries: Matrix | None, k: int) -> tuple[float, int] | None:
    """The same where an engine has the vectors: against pictures of the tables, or a sample of them.

    A picture of the sample is missed if it is nearer than the last one that was found; so many times more are missed
    among all. Rows that the engine does not have count as missed, too.
    """
    sample = gallery.sampled(min(1.0, SAMPLE / max(pictures.count, 1)), pictures.identity.fingerprint)
    blocks = ((list(vectors), np.stack(list(vectors.values()))) for vectors in sample if vectors)
    first = next(blocks, None)
    if first is None:
        return None
    if queries is None:
        queries = ivf.made_up_queries(first[1][:_QUERIES].astype(np.float16))
    answers = _answers(pictures, queries, k)
    names = [{hit.entry.picture for hit in hits} for hits in answers]
    lowest = np.array([hits[-1].score if hits else np.inf for hits in answers], dtype=np.float32) + _ROUNDING
    looked, missed = 0, 0
    for ids, vectors in chain([first], blocks):
        nearer: NDArray[np.int64] = np.argwhere(queries @ vectors.T > lowest[:, None])
        missed += sum(ids[row] not in names[query] for query, row in nearer.tolist())
        looked += len(ids)
    found = sum(map(len, answers))
    lost = missed * max(pictures.count, looked) / looked + k * len(queries) - found
    return found / (found + lost), len(queries)


def _answers(pictures: VectorSet, queries: Matrix, k: int) -> list[list[Hit]]:
    return [pictures.search(query, k) for query in queries]
