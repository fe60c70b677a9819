"""How many of the nearest pictures searches find: the index against an exact scan. Changes nothing."""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from index import ivf
from index.gallery import Gallery
from index.segment import Segment
from index.tail import MemoryTail
from index.vectors import Matrix, VectorSet

_K = 10
_QUERIES = 100
SAMPLE = 131_072  # pictures that an engine's answers are compared with
_ROUNDING = 1e-4  # between scores in float32 and ours


@dataclass(frozen=True)
class Recall:
    """The share of the ten nearest pictures that `queries` searches found; by captions of the gallery, or made-up."""

    share: float
    queries: int
    captions: bool


def measure(pictures: VectorSet, gallery: Gallery) -> Recall | None:
    """Search with captions of the gallery, or without any with made-up texts; None for an empty set.

    By score, not by picture: of equal pictures any is as good. Raises `IndexUnavailable`.
    """
    parts = [part for part in (*pictures.parts, pictures.tail) if part.count]
    held = [part for part in parts if isinstance(part, Segment | MemoryTail)]
    if len(held) < len(parts):
        return _by_sample(pictures, gallery)
    if not held:
        return None
    dimension = pictures.identity.dimension
    asked = [vector for vector in gallery.some_caption_vectors(_QUERIES) if len(vector) == dimension]
    queries = np.stack(asked) if asked else ivf.made_up_queries(held[0].some(_QUERIES))
    k = min(_K, pictures.count)
    least = _least(held, queries, k)
    answers = [pictures.search(query, k) for query in queries]
    found = sum(hit.score >= lowest for hits, lowest in zip(answers, least, strict=True) for hit in hits)
    return Recall(round(found / (k * len(queries)), 4), len(queries), bool(asked))


def _least(parts: list[Segment | MemoryTail], queries: Matrix, k: int) -> list[float]:
    """The score of the `k`th nearest picture of each query, a little lower because of rounding."""
    highest = np.concatenate([_highest(part, queries, min(k, part.count)) for part in parts], axis=1)
    return [float(score) for score in -np.sort(-highest, axis=1)[:, k - 1] - _ROUNDING]


def _highest(part: Segment | MemoryTail, queries: Matrix, k: int) -> NDArray[np.float32]:
    """Without a copy of a segment, whatever has died in it."""
    if isinstance(part, Segment):
        return ivf.highest(part.vectors, queries, k, part.alive)
    return ivf.highest(part.some(part.count), queries, k)


def _by_sample(pictures: VectorSet, gallery: Gallery) -> Recall | None:
    """As `measure`, where an engine has the vectors: against pictures of the tables, or a sample of them.

    A picture of the sample is missed if it is nearer than the last one that was found; so many times more are missed
    among all. Rows that the engine does not have count as missed, too.
    """
    fingerprint, count, k = pictures.identity.fingerprint, pictures.count, min(_K, pictures.count)
    asked = [vector for vector in gallery.some_caption_vectors(_QUERIES) if len(vector) == pictures.identity.dimension]
    sample = gallery.sampled(min(1.0, SAMPLE / max(count, 1)), fingerprint)
    blocks = ((list(vectors), np.stack(list(vectors.values()))) for vectors in sample if vectors)
    first = next(blocks, None)
    if first is None:
        return None
    queries = np.stack(asked) if asked else ivf.made_up_queries(first[1][:_QUERIES].astype(np.float16))
    answers = [pictures.search(query, k) for query in queries]
    names = [{hit.entry.picture for hit in hits} for hits in answers]
    lowest = np.array([hits[-1].score if hits else np.inf for hits in answers], dtype=np.float32) + _ROUNDING
    looked, missed = 0, 0
    for ids, vectors in chain([first], blocks):
        nearer = np.argwhere(queries @ vectors.T > lowest[:, None])
        missed += sum(ids[row] not in names[query] for query, row in nearer.tolist())
        looked += len(ids)
    found = sum(map(len, answers))
    lost = missed * max(count, looked) / looked + k * len(queries) - found
    return Recall(round(found / (found + lost), 4), len(queries), bool(asked))
