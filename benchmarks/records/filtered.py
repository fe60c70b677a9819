"""A filtered search beside an unfiltered one, and beside the exact scan of what the filter leaves."""

import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.records.material import NUMBER, RANK, Collection
from benchmarks.scale.material import TEXT, name
from benchmarks.scale.measures import time_call
from index.filters import parse_filter
from index.selection import Criteria, Selection

_QUERIES = 100
_K = 10
_ROUND = 0.0002  # scores closer than this are taken as equal: the vectors are halves


def measure_selectivity(collection: Collection) -> list[dict[str, Any]]:
    """Return one row for each number of pictures that a filter leaves: from one to all."""
    count = collection.made.count
    sizes = sorted({size for size in (1, 10, 100, 1_000, 10_000, count // 10, count // 2, count) if size <= count})
    queries = collection.made.queries(2 * _QUERIES, TEXT)
    return [_measure_filter(collection, RANK, {"lt": size}, collection.ranks < size, queries) for size in sizes]


def measure_far(collection: Collection) -> list[dict[str, Any]]:
    """Measure what is left of one domain for queries of the other: no list near them has any."""
    count = collection.made.count
    queries = collection.made.queries_of_first(2 * _QUERIES, TEXT)
    sizes = sorted({size for size in (1_000, count // 10, count // 4, count // 2) if size <= count // 2})
    return [
        _measure_filter(collection, NUMBER, {"gte": count - size}, np.arange(count) >= count - size, queries)
        for size in sizes
    ]


def _measure_filter(
    collection: Collection, key: str, bounds: dict[str, int], leaves: np.ndarray, queries: np.ndarray
) -> dict[str, Any]:
    """Filter by the range of a key, which `leaves` these pictures. Searches come in turns with unfiltered ones.

    These have queries of their own: a search would find the processor's cache filled by another with the same query.
    `first_ms` is a search with a filter that nobody has asked before. Recall counts a hit that scores as high as the
    last right one: of equal pictures any is as good as another.
    """
    wanted = Criteria(parse_filter({"must": [{"key": key, "range": bounds}]}))
    left = np.flatnonzero(leaves)
    snapshot, selection = collection.live.current, collection.selection()

    def search(query: np.ndarray, among: Selection = selection) -> list[tuple[str, float]]:
        hits = snapshot.search_pictures(query, _K, allowed=among.find_allowed_keys(wanted))
        return [(hit.picture, hit.score) for hit in hits]

    first = median(time_call(search, query, collection.selection())[0] for query in queries[:5])
    took, plain, used, plain_used = [list[float]() for _ in range(4)]
    answers = list[list[tuple[str, float]]]()
    search(queries[0])
    for query, other in zip(queries[:_QUERIES], queries[_QUERIES:], strict=True):
        begun = time.thread_time()
        spent, hits = time_call(search, query)
        used.append(time.thread_time() - begun)
        took.append(spent)
        answers.append(hits)
        begun = time.thread_time()
        plain.append(time_call(snapshot.search_pictures, other, _K)[0])
        plain_used.append(time.thread_time() - begun)
    inside, recall = {name(int(number)) for number in left}, list[float]()
    expected = min(_K, len(left))
    best = collection.find_best(left, queries[:_QUERIES], expected)  # afterwards: a scan empties the processor's cache
    for exact, hits in zip(best, answers, strict=True):
        assert {picture for picture, _ in hits} <= inside, "a hit that the filter does not leave"
        recall.append(sum(score >= exact[-1] - _ROUND for _, score in hits) / expected)
    return {
        "left": len(left),
        "p50_ms": median(took),
        "unfiltered_p50_ms": median(plain),
        "ratio": median(took) / median(plain),
        "cpu_ratio": median(used) / median(plain_used),
        "first_ms": first,
        "recall": float(np.mean(recall)),
    }
