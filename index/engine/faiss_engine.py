"""FAISS: an exact scan up to 100,000 vectors, IVF with 8-bit scalar quantisation above. Reads and writes no FAISS file.

FAISS files have no checksum and a flipped bit can change answers without an error, so an index is always built in
memory from verified vectors. That takes no time for the scan, and 5 s per 100,000 vectors of 512 dimensions for IVF.
"""

import sys
from dataclasses import dataclass
from math import isqrt
from typing import Any

import faiss
import numpy as np

from index.engine import Candidates, Engine, Index, Matrix, Rows, Scores, Vector

FLAT_LIMIT = 100_000  # up to this size the scan (9 ms on one thread) takes less time than the text tower
_MIN_PROBES = 16  # lists to search at least; recall@10 is 0.98 before exact scoring at 100,000 x 512
_ROWS_PER_HIT = 4  # rows in the searched lists for each requested one, so that deep pages are full
_TRAINING_ROWS = 64  # per list; FAISS recommends 39 to 256


class FaissEngine(Engine):
    """Scans matrices of up to `flat_limit` rows. `threads` are used to build; a search runs in the calling thread."""

    def __init__(self, flat_limit: int = FLAT_LIMIT, threads: int = 1) -> None:
        self._flat_limit = flat_limit
        self._threads = threads

    def build(self, vectors: Matrix) -> Index:
        """As `Engine.build`."""
        if len(vectors) <= self._flat_limit:
            return FlatIndex(vectors)
        faiss.omp_set_num_threads(self._threads)
        return IvfIndex(_train(vectors))


@dataclass(frozen=True)
class FlatIndex(Index):
    """An exact scan of the matrix itself: no copy is made."""

    vectors: Matrix
    exact: bool = True

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """As `Index.search`."""
        count, dimension = self.vectors.shape
        k = min(k, count - len(excluded))
        if k <= 0:
            return _NO_CANDIDATES
        _use_one_thread()
        query = np.ascontiguousarray(query, dtype=np.float32)
        rows, scores = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.float32)
        selector, referenced = _selector(excluded)
        faiss.knn_inner_product(
            faiss.swig_ptr(query), faiss.swig_ptr(self.vectors), dimension, 1, count, k,
            faiss.swig_ptr(scores), faiss.swig_ptr(rows), selector,
        )  # fmt: skip
        del referenced
        return _valid(rows, scores)


@dataclass(frozen=True)
class IvfIndex(Index):
    """Approximate: scores are quantised, and the best row may be in a list that is not searched."""

    index: Any
    exact: bool = False

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """As `Index.search`."""
        k = min(k, self.index.ntotal - len(excluded))
        if k <= 0:
            return _NO_CANDIDATES
        selector, referenced = _selector(excluded)
        # Parameters for this search only: set on the index, they would race between threads (faiss #2204)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.sel = selector
        parameters.nprobe = min(
            self.index.nlist, max(_MIN_PROBES, _ROWS_PER_HIT * k * self.index.nlist // self.index.ntotal)
        )
        _use_one_thread()
        query = np.ascontiguousarray(query, dtype=np.float32)
        scores, rows = self.index.search(query[None], k, params=parameters)
        del referenced
        return _valid(rows[0], scores[0])


SCAN: Engine = FaissEngine(flat_limit=sys.maxsize)  # always exact: to check a generation that was just written
_NO_CANDIDATES = Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _train(vectors: Matrix) -> Any:
    count, dimension = vectors.shape
    lists = 4 * isqrt(count)
    quantiser = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid = _TRAINING_ROWS  # FAISS draws the sample with a fixed seed
    index.train(vectors)
    index.add(vectors)
    return index


def _use_one_thread() -> None:
    """Search on one thread: OpenMP's spinning threads made a scan 4 times slower during a training (measured).

    OpenMP has this setting per calling thread, so it is set for every search; that takes a microsecond.
    """
    faiss.omp_set_num_threads(1)


def _selector(excluded: frozenset[int]) -> tuple[Any, Any]:
    """A selector of all rows but these, and the object it references, which must not be freed while it is used."""
    if not excluded:
        return None, None
    batch = faiss.IDSelectorBatch(np.fromiter(excluded, dtype=np.int64, count=len(excluded)))
    return faiss.IDSelectorNot(batch), batch


def _valid(rows: Rows, scores: Scores) -> Candidates:
    valid = rows >= 0  # FAISS pads with -1 when it finds fewer rows than requested
    return Candidates(rows[valid], scores[valid])
