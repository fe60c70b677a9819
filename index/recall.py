"""Recall of the index: how many of the nearest pictures searches find. For people: it changes no search."""

from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Literal

import numpy as np

from index import ivf
from index.engine import EnginePart
from index.gallery import Gallery
from index.vectors import VectorSet

_K = 10
_QUERIES = 100
SAMPLE = 131_072  # pictures that answers are compared with
_ROUNDING = 1e-4  # between scores in float32 and ours


@dataclass(frozen=True)
class Recall:
    """Share of the ten nearest pictures that `queries` searches found; by captions of the gallery, or generated ones.

    `depth` is the most that is searched of a part of the index for ten hits: lists of a segment, or candidates of
    pgvector's graph; None where all is compared, or Milvus decides.
    """

    share: float
    queries: int
    captions: bool
    depth: int | None
    unit: Literal["lists", "candidates"] | None


def measure(pictures: VectorSet, gallery: Gallery) -> Recall | None:
    """Search with captions of the gallery, or without any with generated texts; None for an empty set.

    Answers are compared with the pictures of the tables, or a sample of them: rows that an engine has lost are missed.
    By score, not by picture: of equal pictures any is as good. Raises `IndexUnavailable`.
    """
    parts = [part for part in (*pictures.parts, pictures.tail) if part.count]
    sample = gallery.sample_vectors(min(1.0, SAMPLE / max(pictures.count, 1)), pictures.identity.fingerprint)
    if not parts or (first := next(filter(None, sample), None)) is None:
        return None
    k = min(_K, pictures.count)
    captions = [each for each in gallery.list_newest_vectors(_QUERIES) if len(each) == pictures.identity.dimension]
    known = np.stack([*first.values()])[:_QUERIES]
    queries = np.stack(captions) if captions else ivf.generate_queries(known.astype(np.float16))
    answers = [pictures.search(query, k) for query in queries]
    names = [{hit.entry.picture for hit in hits} for hits in answers]
    lowest = np.array([hits[-1].score if hits else np.inf for hits in answers], dtype=np.float32) + _ROUNDING
    missed: list[list[float]] = [[] for _ in answers]  # scores of those that are nearer than the last that was found
    compared = 0
    for block in chain([first], filter(None, sample)):
        ids, products = [*block], queries @ np.stack([*block.values()]).T
        for query, row in np.argwhere(products > lowest[:, None]).tolist():
            if ids[row] not in names[query]:
                missed[query].append(products[query, row])
        compared += len(ids)
    scale = max(pictures.count, compared) / compared  # so many times more are missed among all
    found = sum(
        rank + scale * sum(score > hit.score + _ROUNDING for score in nearer) <= k
        for hits, nearer in zip(answers, missed, strict=True)
        for rank, hit in enumerate(hits, 1)
    )
    depth = max((depth for part in parts if (depth := part.get_depth(k)) is not None), default=None)
    unit: Literal["lists", "candidates"] = "candidates" if isinstance(parts[0], EnginePart) else "lists"
    share = round(found / (k * len(queries)), 4)
    return Recall(share, len(queries), bool(captions), depth, None if depth is None else unit)


class KnownRecall:
    """Recall of a set, measured again only when something else is sealed of it: a tail is compared exactly."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery
        self._measuring = Lock()  # one at a time: it takes a core for seconds
        self._known: tuple[object, Recall] | None = None

    def measure(self, pictures: VectorSet, *, anew: bool) -> Recall | None:
        """Measure recall; without `anew`, return the last result while the same rows are sealed.

        While another thread measures, return what was known last: many that wait would take all threads of a process.
        """
        sealed = pictures.identity, pictures.state
        if not self._measuring.acquire(blocking=anew):
            known = self._known
            return None if known is None else known[1]
        try:
            if not anew and self._known is not None and self._known[0] == sealed:
                return self._known[1]
            found = measure(pictures, self._gallery)
            self._known = None if found is None else (sealed, found)
            return found
        finally:
            self._measuring.release()
