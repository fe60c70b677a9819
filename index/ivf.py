"""FAISS indexes over the rows of one segment: an exact scan for small ones, IVF with 8-bit codes for larger ones.

Written once by whoever seals the segment, then mapped into memory. The centroids are trained with NumPy, whose matrix
products are several times faster than those of the library inside FAISS on processors that it does not know, and along
the axes on which the rows differ most: a quarter of the work, with the same recall.
"""

import errno
import mmap
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, repeat, takewhile
from math import ceil, exp, isqrt, log
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from index.vectors import Halves, Matrix, Vector

Alive = NDArray[np.bool_] | NDArray[np.uint8]  # which rows: a truth value for each, or eight in a byte (`pack_bits`)
Curve = list[tuple[int, float]]  # lists searched, and the recall that this gives; rising
RECALL = 0.97  # share of the ten nearest that an approximate index is searched for
SCAN_LIMIT = 8_192  # rows up to which a scan takes less time than the search of an IVF index saves
_LISTS_PER_ROOT = 6  # lists = this x the square root of the rows: with 4, several times as many rows are compared
_ROWS_PER_LIST = 150  # at most, in the mean: of ten million rows, three times as many made 37 % of the lists necessary
_SAMPLE = 16  # rows per list to train the centroids; more, or more rounds, raise recall less than more lists do
_ROUNDS = 4  # of k-means
_AXES = 128  # on which rows and centroids are compared while the lists are made; with 64, recall falls
_RANGES = 64 * 1024  # rows from which the axes and the range of each dimension are known
_CHUNK = 16_384  # rows in memory as float32 at a time
_PRODUCTS = 1 << 26  # of rows and centroids at a time: 256 MiB
_GATHERED = 2_048  # rows that are copied at a time: of ten thousand together, the memory alone takes as long
DEPTHS = (10, 100)  # hits for which recall is measured
QUERIES = 192  # at most, to measure it
_DEEP, _DEEP_QUERIES = 1_000, 24  # so deep lie the ten nearest of a hundredth of the rows; measured with fewer queries
_ENOUGH_RECALL = 0.999  # recall beyond which no more effort is tried
_SAFETY_MARGIN = 0.25  # of what may be missed: recall was measured with few queries, and others are not the same
_FAR_FACTOR = 4  # times the rows, when those wanted are far from the query: of a million, .884 became 1.000
ROUNDING = np.float32(1e-5)  # two float32 products of the same vectors differ by less


@dataclass(frozen=True)
class SearchResult:
    """Rows (c,) and FAISS's own scores (c,), best first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Probes(NamedTuple):
    """Lists to search, nearest first, and the scores of their centroids: each (1, n), as FAISS takes them."""

    lists: NDArray[np.int64]
    scores: NDArray[np.float32]


def write(vectors: Halves, path: Path, queries: Matrix, *, scan: bool = False) -> dict[str, Any]:
    """Build the index of these rows and write it; return what the manifest should say of it.

    With `scan`, or for few rows, it is an exact scan. For an IVF index the manifest has the number of lists, and for
    10, 100 and 1,000 hits how recall rises with the lists searched, measured with `queries` (q, dimension) and a scan.
    """
    if scan or len(vectors) <= SCAN_LIMIT:
        _write(_build_scan(vectors), path)
        return {"kind": "scan"}
    index = _build_ivf(vectors)
    _write(index, path)
    return {"kind": "ivf", "lists": index.nlist, "recall": _measure_recall(index, vectors, queries)}


class ListsOfRows:
    """The list of an IVF index that each row is in; read when it is first asked for."""

    def __init__(self, index: Any) -> None:
        self._index, self.is_mapped = index, False

    def map_pages(self) -> None:
        """Read a byte of each page of the lists, once; a scan has none."""
        lists: Any = None if self.is_mapped else getattr(self._index, "invlists", None)
        self.is_mapped = True
        for number in range(self._index.nlist if lists else 0):
            if size := lists.list_size(number):
                faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)[:: mmap.PAGESIZE].max()

    @cached_property
    def by_row(self) -> NDArray[np.int32]:
        """List of each row: (n,)."""
        of, lists = np.zeros(self._index.ntotal, dtype=np.int32), self._index.invlists
        for number in range(self._index.nlist):
            if size := lists.list_size(number):
                of[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return of

    def count_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count these rows in each list: (lists,)."""
        counts: NDArray[np.int64] = np.bincount(self.by_row[rows], minlength=self._index.nlist)
        return counts


def choose_lists(index: Any, query: Vector, probes: int, near: int, counts: NDArray[np.int64]) -> Probes:
    """Choose the lists to search when only some rows are wanted, at least one; each list has `counts` of them (lists,).

    They are the `near` nearest, in which the hits are if what is wanted lies evenly among all rows. It may be far from
    the query, all of it (maps, when photographs are asked for): its share of the rows tells nothing of this. Then as
    many lists as have together four times so many of these rows as `probes` lists have of all, because recall was
    measured with queries that have something near them.
    """
    near, asked = min(near, index.nlist), np.ascontiguousarray(query, dtype=np.float32)[None]
    scores, lists = index.quantizer.search(asked, near)
    reached = counts[lists[0]].cumsum()
    if reached[-1] < near * counts.sum() / index.nlist / 2:
        some = pack_bits(counts > 0)
        selector, parameters = faiss.IDSelectorBitmap(len(some), faiss.swig_ptr(some)), faiss.SearchParameters()
        parameters.sel = selector
        scores, lists = index.quantizer.search(asked, int(np.count_nonzero(counts)), params=parameters)
        reached = counts[lists[0]].cumsum()
        wanted = min(_FAR_FACTOR * probes * index.ntotal / index.nlist, reached[-1])
        number = max(probes, int(np.searchsorted(reached, wanted)) + 1)
        scores, lists = scores[:, :number], lists[:, :number]
    filled = np.flatnonzero(counts[lists[0]])  # a list without any costs as much as another
    return Probes(lists[:, filled], scores[:, filled])


def read(path: Path) -> Any:
    """Map the index: its codes are in memory once for all processes."""
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def search(index: Any, query: Vector, k: int, probes: int | Probes, alive: Alive | None) -> SearchResult:
    """Find at most `k` living rows nearest to `query`: in so many of the nearest lists, or in these; 0 for a scan."""
    faiss.omp_set_num_threads(1)  # per thread; OpenMP's spinning threads made a scan 4 times slower during a training
    bitmap, selector = None, None
    if alive is not None:
        bitmap = pack_bits(alive)
        selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
    asked = np.ascontiguousarray(query, dtype=np.float32)[None]
    # Parameters for this search only: set on the index, they would race between threads (faiss #2204)
    parameters: Any = faiss.SearchParametersIVF() if probes else faiss.SearchParameters()
    parameters.sel = selector
    if isinstance(probes, Probes):
        parameters.nprobe = probes.lists.shape[1]
        found, rows = np.empty((1, k), dtype=np.float32), np.empty((1, k), dtype=np.int64)
        vector, *others = [faiss.swig_ptr(each) for each in (asked, *probes, found, rows)]
        index.search_preassigned_c(1, vector, k, *others, False, parameters)
    else:
        if probes:
            parameters.nprobe = min(probes, index.nlist)
        found, rows = index.search(asked, k, params=parameters)
    del bitmap
    valid = rows[0] >= 0  # FAISS pads with -1 when it finds fewer rows than requested
    return SearchResult(rows[0][valid], found[0][valid])


def pack_bits(alive: Alive) -> NDArray[np.uint8]:
    """Put eight rows into a byte, which takes a while for a million of them."""
    return np.packbits(alive, bitorder="little") if alive.dtype == np.bool_ else alive.view(np.uint8)


def build_partial_scan(vectors: Halves, rows: NDArray[np.int64]) -> Any:
    """Make an exact scan of some rows, in memory: to gather them takes ten times as long as to search in it."""
    index = _make_empty_scan(vectors.shape[1])
    for start in range(0, len(rows), _GATHERED):
        index.add_sa_codes(np.ascontiguousarray(vectors[rows[start : start + _GATHERED]]).view(np.uint8))
    return index


def choose_effort(curves: dict[int, Curve], k: float, recall: float) -> int:
    """Choose how many lists or candidates to search so that the `k` nearest are found with this recall.

    Between two measured numbers of lists recall is at least on the line between theirs: it rises ever more slowly.
    Beyond a hundred hits, the lists grow between two measured depths as a power of the hits, and after the last.
    """
    aim = recall + _SAFETY_MARGIN * (1 - recall)
    depths = sorted(curves)
    after = min(bisect_left(depths, k), len(depths) - 1)
    effort = _read_effort(curves[depths[after]], aim)
    if k <= DEPTHS[-1]:
        return effort
    before = _read_effort(curves[depths[after - 1]], aim)
    power = log(max(effort, before) / before, depths[after] / depths[after - 1])
    return ceil(before * exp(power * log(k / depths[after - 1])))


def _read_effort(curve: Curve, recall: float) -> int:
    numbers, reached = zip(*curve, strict=True)
    rising = np.maximum.accumulate(reached)  # measured with few queries, it may fall a little
    return max(1, ceil(float(np.interp(recall, rising, numbers))))


def _write(index: Any, path: Path) -> None:
    """Write an index, and read it: FAISS (1.15) does not notice when the disk fills while it closes the file.

    Raises `OSError`.
    """
    try:
        faiss.write_index(index, str(path))
        read(path)
    except RuntimeError as error:  # its text has that of the system's error, if there was one
        number = next((each for each in errno.errorcode if os.strerror(each) in str(error)), errno.ENOSPC)
        raise OSError(number, os.strerror(number)) from error


def _build_scan(vectors: Halves) -> Any:
    index = _make_empty_scan(vectors.shape[1])
    if len(vectors):
        index.add(vectors.astype(np.float32))
    return index


def _make_empty_scan(dimension: int) -> Any:
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True  # halves need no training
    return index


def _build_ivf(vectors: Halves) -> Any:
    count, dimension = vectors.shape
    lists = min(max(_LISTS_PER_ROOT * isqrt(count), count // _ROWS_PER_LIST), count)
    numbers = _choose_rows(count, _RANGES)
    some = vectors[numbers].astype(np.float32)
    nearest, centroids = _assign(vectors, lists, np.linalg.eigh(some.T @ some)[1][:, -_AXES:])
    quantiser = _build_scan(centroids.astype(np.float16))  # a search reads all: as halves, in half the time and as well
    kind = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(quantiser, dimension, lists, kind, faiss.METRIC_INNER_PRODUCT)
    differences = np.ascontiguousarray(some - centroids[nearest[numbers]])
    index.sq.train(differences)  # the range of each dimension: the lists are there
    index.is_trained = True
    empty: Any = index.invlists
    for number, size in enumerate(np.bincount(nearest, minlength=lists).tolist()):
        empty.resize(number, size)  # room for its rows: a list that grows takes up to twice as much
        empty.resize(number, 0)
    for start in range(0, count, _CHUNK):
        rows = vectors[start : start + _CHUNK].astype(np.float32)
        ids, own = np.arange(start, start + len(rows), dtype=np.int64), nearest[start : start + len(rows)]
        index.add_core(len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(ids), faiss.swig_ptr(own))
    return index


def _choose_rows(count: int, size: int) -> NDArray[np.int64]:
    """Choose at most `size` of so many rows, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(size, count)).astype(np.int64))


def _assign(vectors: Halves, lists: int, axes: Matrix) -> tuple[NDArray[np.int64], Matrix]:
    """Find the list of each row (n,), compared along `axes` (dimension, a), and the mean of each list, of unit length.

    The same rows give the same lists.
    """
    step = min(_CHUNK, max(1, _PRODUCTS // lists))
    chosen = _choose_rows(len(vectors), lists * _SAMPLE)
    parts = [vectors[chosen[start : start + step]].astype(np.float32) @ axes for start in range(0, len(chosen), step)]
    trained = _train_centroids(np.concatenate(parts), lists, step)
    nearest, sums = np.empty(len(vectors), dtype=np.int64), np.zeros((lists, vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), step):
        rows = vectors[start : start + step].astype(np.float32)
        own = nearest[start : start + step] = (rows @ axes @ trained.T).argmax(axis=1)
        _add_to_lists(sums, rows, own)
    return nearest, _normalize(sums)


def _train_centroids(sample: Matrix, lists: int, step: int) -> Matrix:
    """Train by spherical k-means, so many rows at a time: (lists, a), of unit length."""
    draw = np.random.default_rng(0)
    centroids = _normalize(sample[draw.permutation(len(sample))[:lists]])
    for _ in range(_ROUNDS):
        sums, sizes = np.zeros_like(centroids), np.zeros(lists, dtype=np.int64)
        for start in range(0, len(sample), step):
            rows = sample[start : start + step]
            nearest = (rows @ centroids.T).argmax(axis=1)
            _add_to_lists(sums, rows, nearest)
            sizes += np.bincount(nearest, minlength=lists)
        empty = sizes == 0
        sums[empty] = sample[draw.integers(0, len(sample), int(empty.sum()))]
        centroids = _normalize(sums)
    return centroids


def _add_to_lists(sums: Matrix, rows: Matrix, nearest: NDArray[np.int64]) -> None:
    """Add each row to the sum of its list."""
    order = np.argsort(nearest, kind="stable")
    found, first = np.unique(nearest[order], return_index=True)
    sums[found] += np.add.reduceat(rows[order], first, axis=0)


def _normalize(rows: Matrix) -> Matrix:
    """Bring each row to unit length."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(rows / lengths, dtype=np.float32)


def _measure_recall(index: Any, vectors: Halves, queries: Matrix) -> dict[str, Curve]:
    tried = takewhile(lambda probes: probes < index.nlist, accumulate(repeat(8), lambda probes, _: probes * 3 // 2))
    efforts = [*tried, index.nlist]
    deep = _measure_depths(index, vectors, queries[:_DEEP_QUERIES], efforts, [_DEEP])
    return _measure_depths(index, vectors, queries[:QUERIES], efforts, DEPTHS) | deep


def _measure_depths(
    index: Any, vectors: Halves, queries: Matrix, efforts: Sequence[int], depths: Sequence[int]
) -> dict[str, Curve]:
    @lru_cache(1)
    def find_scores(probes: int) -> list[NDArray[np.float32]]:
        # codes are coarse: the nearest of four times as many candidates are chosen by their vectors
        rows = [search(index, query, 4 * depths[-1], probes, None).rows for query in queries]
        return [vectors[each].astype(np.float32) @ query for each, query in zip(rows, queries, strict=True)]

    exact = _find_highest(vectors, queries, min(depths[-1], len(vectors)))
    return measure_curves(
        efforts, lambda probes, hits: [near[: 4 * hits] for near in find_scores(probes)], exact, depths
    )


def measure_curves(
    tried: Iterable[int],
    near: Callable[[int, int], Sequence[NDArray[np.float32]]],
    exact: NDArray[np.float32],
    depths: Sequence[int] = DEPTHS,
) -> dict[str, Curve]:
    """Measure how recall rises with the effort of a search, for each of `depths`, against exact scores (q, n).

    `near(effort, hits)` gives, for each query, the scores of all that a search looks at. Stops when recall is nearly 1.
    """
    rising: dict[str, Curve] = {str(depth): [] for depth in depths}
    for effort in tried:
        for depth in depths:
            wanted = min(depth, exact.shape[1])
            least = exact[:, wanted - 1] - ROUNDING  # by score, not by row: of equal vectors any is as good as another
            hits = [
                min(int((each >= lowest).sum()), wanted)
                for each, lowest in zip(near(effort, wanted), least, strict=True)
            ]
            rising[str(depth)].append((effort, round(float(np.mean(hits)) / wanted, 4)))
        if rising[str(depths[-1])][-1][1] > _ENOUGH_RECALL:
            break
    return rising


def _find_highest(vectors: Halves, queries: Matrix, k: int) -> NDArray[np.float32]:
    """Find the `k` highest scores of each query, by an exact scan: (q, k), falling."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), _CHUNK):
        values = queries @ vectors[start : start + _CHUNK].astype(np.float32).T
        merged = np.concatenate([best, values], axis=1)
        best = -np.sort(-np.partition(merged, merged.shape[1] - k, axis=1)[:, -k:], axis=1)
    return best


def generate_queries(vectors: Halves, share: float = 0.3) -> Matrix:
    """Generate queries as texts are, with this cosine to one picture and far from all; (q, dimension), unit length."""
    rows = vectors[_choose_rows(len(vectors), QUERIES)].astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(rows.shape).astype(np.float32)
    return _normalize(share * rows + np.sqrt(1 - share**2, dtype=np.float32) * _normalize(noise))
