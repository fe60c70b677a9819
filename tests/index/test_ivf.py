"""Indexes of segments: small ones are scanned, large ones quantised; recall reaches its target, filters hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import ivf, segment
from index.segment import Segment
from index.set_states import PartRecord
from index.vectors import Hit, find_best
from store.data_root import DataRoot
from tests.doubles import Vectors
from tests.index.conftest import (
    PICTURES,
    Keys,
    brute_force,
    clustered,
    names,
    numbered,
    numbered_rows,
    sealed,
    text_like,
    unit,
)

ROWS = 20_000
RECALL = 0.97


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(ROWS)


def test_an_index_whose_folder_is_gone_can_be_written_again(root: DataRoot, vectors: Vectors) -> None:
    with pytest.raises(FileNotFoundError):
        ivf.write(vectors[:9].astype(np.float16), root.locate("gone/index"), vectors[:9])


@pytest.fixture(scope="module")
def written(vectors: Vectors, shared_root: DataRoot) -> PartRecord:
    return segment.write(shared_root, PICTURES, numbered_rows(vectors, names(ROWS)), text_like(vectors, 192, seed=1))


@pytest.fixture(scope="module")
def approximate(written: PartRecord, shared_root: DataRoot) -> Segment:
    """Pictures 0 to 19,999 in an IVF index; a key is the picture's number."""
    return segment.read(shared_root, written, PICTURES, RECALL)


def find_truth(query: Vectors, vectors: Vectors, k: int, rows: Keys | None = None) -> list[Hit]:
    """Find the best of these rows by an exact scan."""
    rows = np.arange(len(vectors)) if rows is None else rows
    products = vectors[rows] @ query
    near = rows[np.argsort(-products, kind="stable")[: k + 50]]
    return brute_force(query, vectors[near], [names(1, int(row))[0] for row in near], k)


def measure_recall(part: Segment, vectors: Vectors, k: int, rows: Keys | None = None, *, told: bool = True) -> float:
    """Measure which share of the best hits is found, with queries that were not used to measure it before."""
    hits = total = 0
    for query in text_like(vectors, 60, seed=50):
        expected = find_truth(query, vectors, k, rows)
        hits += len({*expected} & {*find_best(part, query, k, rows if told else None)})
        total += len(expected)
    return hits / total


def index_of(vectors: Vectors, path: Path) -> tuple[Any, dict[str, Any]]:
    about = ivf.write(vectors.astype(np.float16), path, text_like(vectors, 20))
    return ivf.read(path), about


@pytest.mark.parametrize("k", [10, 100, 400])
def test_searches_reach_the_target(k: int, approximate: Segment, vectors: Vectors) -> None:
    assert measure_recall(approximate, vectors, k) >= RECALL - 0.02


@pytest.mark.parametrize("target", [0.0, 0.5, 0.9, 0.99])
def test_a_higher_target_gives_a_higher_recall(
    target: float, written: PartRecord, shared_root: DataRoot, vectors: Vectors
) -> None:
    """And none a low one: these vectors are not so easy that eight lists are enough."""
    recall = measure_recall(segment.read(shared_root, written, PICTURES, target), vectors, 100)
    assert recall >= target - 0.03 and (target or recall < 0.85)


@pytest.mark.parametrize("k", [10, 400])
def test_dead_rows_never_come_back_and_hide_no_others(k: int, approximate: Segment, vectors: Vectors) -> None:
    """One half, and with each query also what it would find first."""
    alive = np.arange(1, ROWS, 2)
    half = approximate.mark_dead(np.arange(ROWS) % 2 == 0)
    assert measure_recall(half, vectors, k, alive, told=False) >= RECALL - 0.02
    for query in text_like(vectors, 20, seed=4):
        first = find_best(half, query, k)
        fewer = half.exclude_pictures([hit.entry.picture for hit in first])
        assert len(first) == k and not {*find_best(fewer, query, k)} & {*first}
        assert all(int(hit.entry.picture[1:]) % 2 for hit in first)


@pytest.mark.parametrize("count", [0, 1, 9, 100, 4_000])
def test_the_answer_is_exact_when_few_are_allowed(count: int, approximate: Segment, vectors: Vectors) -> None:
    rows = np.sort(np.random.default_rng(count).permutation(ROWS)[:count]).astype(np.int64)
    for query in text_like(vectors, 20, seed=5):
        assert find_best(approximate, query, 10, rows) == find_truth(query, vectors, 10, rows)


@pytest.mark.parametrize(("count", "k"), [(4_200, 10), (10_500, 10), (10_500, 50), (12_000, 100)])
def test_searches_reach_the_target_when_many_are_allowed(
    count: int, k: int, approximate: Segment, vectors: Vectors
) -> None:
    rows = np.sort(np.random.default_rng(count).permutation(ROWS)[:count]).astype(np.int64)
    for query in text_like(vectors, 20, seed=6):
        assert {int(hit.entry.picture[1:]) for hit in find_best(approximate, query, 10, rows)} <= {*rows.tolist()}
    assert measure_recall(approximate, vectors, k, rows) >= RECALL - 0.02


@pytest.mark.parametrize("k", [10, 100])
def test_searches_reach_the_target_when_those_allowed_are_all_far_from_the_query(k: int, root: DataRoot) -> None:
    """Maps are allowed, and the query is about photographs: the nearest lists have no row that is allowed."""
    domain = unit(2, seed=8)
    mixed = np.repeat(domain, [8_000, 10_500], axis=0) + 0.8 * clustered(18_500)
    mixed = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    photographs, maps = mixed[:8_000], np.arange(8_000, 18_500)
    part = sealed(root, mixed, names(18_500), recall=RECALL, queries=text_like(mixed, 192))
    found = total = 0
    for query in text_like(photographs, 60, seed=51) + domain[0]:
        query /= np.linalg.norm(query)
        expected = find_truth(query, mixed, k, maps)
        found += len({*expected} & {*find_best(part, query, k, maps)})
        total += len(expected)
        assert len(find_best(part.mark_dead(np.arange(18_500) < 8_000), query, k)) == k  # the photographs were deleted
    assert total == 60 * k and found / total >= RECALL


@pytest.mark.parametrize("k", [4_000, ROWS, ROWS + 1])
def test_deep_pages_are_filled(k: int, approximate: Segment, query: Vectors) -> None:
    assert len({*find_best(approximate, query, k)}) == min(k, ROWS)
    assert len({*find_best(approximate.exclude_pictures(["p00001"]), query, k, numbered(*range(10_000)))}) == min(
        k, 9_999
    )


@pytest.fixture(scope="module")
def repeated(shared_root: DataRoot) -> Iterator[tuple[Segment, Vectors]]:
    """Many copies of 30 vectors; entries are in the opposite order of rows."""
    copies = np.repeat(clustered(30), 300, axis=0)
    yield sealed(shared_root, copies, names(9_000)[::-1], recall=RECALL), copies


def test_any_of_many_equal_vectors_is_as_good_as_another(repeated: tuple[Segment, Vectors], tmp_path: Path) -> None:
    """Recall counts scores, not which of the equal ones were found."""
    part, copies = repeated
    for query in text_like(copies, 20):
        hits, expected = find_best(part, query, 10), brute_force(query, copies, names(9_000), 10)
        assert [hit.score for hit in hits] == [hit.score for hit in expected]
    _, about = index_of(copies, tmp_path / "index")
    assert all(about["recall"][str(depth)][-1][1] > 0.99 for depth in ivf.DEPTHS)


def test_one_vector_many_times_is_an_index(tmp_path: Path) -> None:
    """All centroids are the same: one list has everything."""
    index, _ = index_of(np.repeat(clustered(1), ivf.SCAN_LIMIT + 1, axis=0), tmp_path / "index")
    found = ivf.search(index, clustered(1)[0], 100, 8, None)
    assert len({*found.rows.tolist()}) == 100


@pytest.mark.parametrize("rows", [500, 9_000])
def test_the_same_input_gives_the_same_bytes(rows: int, tmp_path: Path) -> None:
    made = [index_of(clustered(rows), tmp_path / name) for name in ("one", "two")]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() and made[0][1] == made[1][1]


def test_searches_of_many_threads_do_not_disturb_each_other(approximate: Segment, vectors: Vectors) -> None:
    """Each with its own depth and its own dead rows."""

    def search(row: int) -> list[Hit]:
        return find_best(approximate.exclude_pictures([f"p{row:05d}"]), vectors[row], 1 + row % 300)

    alone = [search(row) for row in range(150)]
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(search, range(150))] == alone
