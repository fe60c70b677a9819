"""FAISS: an exact scan up to 100,000 vectors, IVF with 8-bit scalar quantisation above. Reads and writes no FAISS file.

FAISS files carry no checksum and a flipped bit can change answers in silence, so an index is always built in memory
from verified vectors. That costs nothing for the scan, and for IVF 5 s per 100,000 vectors of 512 dimensions.
"""

import sys
from dataclasses import dataclass
from math import isqrt
from typing import Any

import faiss
import numpy as np

from index.engine import Candidates, Engine, Index, Matrix, Rows, Scores, Vector

FLAT_LIMIT = 100_000  # up to here the text tower, not the scan (9 ms on one thread), decides how long a search takes
_PROBES = 16  # lists searched at least; recall@10 0.98 before exact scoring at 100,000 x 512
_PROBED = 4  # rows in the lists searched for each one asked, so that deep pages are filled
_TRAINING_ROWS = 64  # per list, of the 39 to 256 that FAISS wants


class FaissEngine(Engine):
    """`flat_limit` is the largest matrix that is scanned; `threads` is for building: a search uses its caller's."""

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
            return _NONE
        _stay_in_this_thread()
        query = np.ascontiguousarray(query, dtype=np.float32)
        rows, scores = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.float32)
        selector, kept = _selector(excluded)
        faiss.knn_inner_product(
            faiss.swig_ptr(query), faiss.swig_ptr(self.vectors), dimension, 1, count, k,
            faiss.swig_ptr(scores), faiss.swig_ptr(rows), selector,
        )  # fmt: skip
        del kept
        return _found(rows, scores)


@dataclass(frozen=True)
class IvfIndex(Index):
    """Approximate: candidates are right but for quantisation, and the best may lie in a list that was not searched."""

    index: Any
    exact: bool = False

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        """As `Index.search`."""
        k = min(k, self.index.ntotal - len(excluded))
        if k <= 0:
            return _NONE
        selector, kept = _selector(excluded)
        # Parameters of this search alone: as fields of the index they would race between threads (faiss #2204)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.sel = selector
        parameters.nprobe = min(self.index.nlist, max(_PROBES, _PROBED * k * self.index.nlist // self.index.ntotal))
        _stay_in_this_thread()
        query = np.ascontiguousarray(query, dtype=np.float32)
        scores, rows = self.index.search(query[None], k, params=parameters)
        del kept
        return _found(rows[0], scores[0])


SCAN: Engine = FaissEngine(flat_limit=sys.maxsize)  # always exact: to check what was written
_NONE = Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _train(vectors: Matrix) -> Any:
    count, dimension = vectors.shape
    lists = 4 * isqrt(count)
    quantiser = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser, dimension, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid = _TRAINING_ROWS  # the sample is drawn by FAISS from a fixed seed
    index.train(vectors)
    index.add(vectors)
    return index


def _stay_in_this_thread() -> None:
    """Search on one thread: OpenMP's spinning ones made a scan 4 times slower beside a trainer (measured).

    OpenMP keeps the number per calling thread, so it is set at every search; that takes a microsecond.
    """
    faiss.omp_set_num_threads(1)


def _selector(excluded: frozenset[int]) -> tuple[Any, Any]:
    """A selector of every other row, and what must stay alive while it is used."""
    if not excluded:
        return None, None
    batch = faiss.IDSelectorBatch(np.fromiter(excluded, dtype=np.int64, count=len(excluded)))
    return faiss.IDSelectorNot(batch), batch


def _found(rows: Rows, scores: Scores) -> Candidates:
    real = rows >= 0  # FAISS fills up with -1 where it finds fewer than asked
    return Candidates(rows[real], scores[real])
