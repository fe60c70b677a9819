"""Vectors sets and their tail: exact answers, scores of two vectors alone, whatever is sealed, merged or dead."""

import sys
import tracemalloc
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import segment
from index.segment import Segment
from index.segment_files import StoredRows
from index.vectors import Candidates, Entry, Hit, MemoryTail, VectorRows, VectorSet, compute_scores, find_best
from store.data_root import DataRoot
from tests.doubles import Vectors
from tests.index.conftest import (
    DIMENSION,
    PICTURES,
    Keys,
    brute_force,
    captioned,
    gone,
    names,
    numbered,
    numbered_rows,
    sealed,
    stored,
    tail,
    unit,
)  # fmt: skip

Content = Mapping[str, VectorRows]  # what a tail should have, by picture
NOTHING: Content = {}


def set_of(*parts: Segment, tail: MemoryTail | None = None) -> VectorSet:
    return VectorSet(PICTURES, 1, 0, parts, tail or MemoryTail.make_empty(DIMENSION))


def seal(root: DataRoot, vector_set: VectorSet) -> VectorSet:
    """Make the tail one more segment."""
    assert isinstance(vector_set.tail, MemoryTail)
    written = segment.write(root, PICTURES, vector_set.tail.read_all_rows())
    parts = (*vector_set.parts, segment.read(root, written, PICTURES))
    return replace(vector_set, parts=parts, tail=MemoryTail.make_empty(DIMENSION))


def merge(root: DataRoot, vector_set: VectorSet) -> VectorSet:
    parts = [part for part in vector_set.parts if isinstance(part, Segment)]
    if not parts:
        return vector_set
    written = segment.write(root, PICTURES, StoredRows.join([part.read_all_rows() for part in parts]))
    return replace(vector_set, parts=(segment.read(root, written, PICTURES),))


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1_000])
def test_a_score_has_the_same_bits_whatever_else_is_in_the_matrix(rows: int) -> None:
    vectors, query = unit(rows, seed=4, dimension=512), unit(1, seed=5, dimension=512)[0]
    together = compute_scores(query, vectors)
    alone = np.concatenate([compute_scores(query, vectors[row : row + 1]) for row in range(rows)])
    assert together.tobytes() == alone.tobytes()


@dataclass(frozen=True)
class Scan:
    """A part whose own scores have errors of up to `noise`."""

    vectors: Vectors
    entries: list[Entry]
    noise: float = 0.0
    exact: bool = True

    @property
    def count(self) -> int:
        return len(self.vectors)

    def find_candidates(self, query: Vectors, limit: int, hits: int, allowed: Keys | None = None) -> Candidates:
        errors = np.random.default_rng(0).uniform(-self.noise, self.noise, self.count)
        values = (compute_scores(query, self.vectors) + errors).astype(np.float32)
        order = np.argsort(-values)[:limit]
        return Candidates(values[order], self.vectors[order], lambda nth: self.entries[int(order[nth])], exact=True)

    def read_rows(self, picture: str) -> VectorRows:
        raise NotImplementedError

    def get_depth(self, hits: int) -> int | None:
        raise NotImplementedError

    def list_entries(self, pictures: Collection[str]) -> list[tuple[int, Entry]]:
        raise NotImplementedError

    def exclude_pictures(self, pictures: Collection[str]) -> "Scan":
        raise NotImplementedError


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_candidates_in_a_slightly_wrong_order_lose_no_hit(noise: float) -> None:
    """Many vectors whose scores differ by less than float32 rounding: one round of candidates is not enough."""
    query = unit(1, seed=12)[0]
    near = query + np.random.default_rng(1).standard_normal((500, DIMENSION)).astype(np.float32) * 1e-4
    vectors = np.ascontiguousarray(near / np.linalg.norm(near, axis=1, keepdims=True), dtype=np.float32)
    assert find_best(Scan(vectors, names(500), noise), query, 10) == brute_force(query, vectors, names(500), 10)


Change = Callable[[DataRoot, VectorSet], VectorSet]


LAST_BIT = np.nextafter(stored(2, seed=15).astype(np.float16), np.float16(2)).astype(np.float32)


POOL = np.concatenate([stored(2, seed=15), LAST_BIT, stored(2, seed=16)])  # two pairs that are nearly equal


PUT = st.tuples(st.sampled_from("abcdef"), st.lists(st.integers(0, len(POOL) - 1), max_size=3))


@settings(max_examples=60)
@given(st.lists(PUT | st.sampled_from([seal, merge]), min_size=1, max_size=12))
def test_any_history_answers_as_brute_force_over_what_is_left(
    shared_root: DataRoot, history: list[tuple[str, list[int]] | Change]
) -> None:
    vector_set, left, next_key = set_of(), dict[str, VectorRows](), 1
    for change, step in enumerate(history, 1):
        if callable(step):
            vector_set = step(shared_root, vector_set)
        else:
            left[step[0]] = captioned(step[0], POOL[step[1]], next_key)
            next_key += len(step[1])
            vector_set = vector_set.replace_rows({step[0]: left[step[0]]}, change)
        rows = [row for each in left.values() for row in zip(each.keys, each.entries, each.vectors, strict=True)]
        allowed = numbered(*range(1, next_key, 2))
        for query in POOL[:2]:
            for keys in (None, allowed):
                chosen = [row for row in rows if keys is None or row[0] in keys]
                vectors = np.array([row[2] for row in chosen], dtype=np.float32).reshape(-1, DIMENSION)
                expected = brute_force(query, vectors, [row[1] for row in chosen], 100)
                assert [vector_set.search(query, k, keys) for k in (1, 3, 100)] == [
                    expected[:1], expected[:3], expected,
                ]  # fmt: skip
        assert vector_set.count == len(rows)
        for picture, each in left.items():
            found = vector_set.read_rows(picture)
            assert (found.keys.tolist(), [*found.entries]) == (each.keys.tolist(), [*each.entries])
            assert found.vectors.astype(np.float32).tobytes() == each.vectors.tobytes()


def test_what_did_not_change_is_not_waiting_to_be_sealed(root: DataRoot) -> None:
    vectors, entries = stored(20, seed=1), names(20)
    old = set_of(sealed(root, vectors[:10], entries[:10]), tail=tail(vectors[10:], entries[10:], 10))
    same = {"p00007": VectorRows(numbered(7), (Entry("p00007"),), vectors[7:8]), "unknown": gone()}
    again = old.replace_rows(same, change=4)
    assert (again.change, again.waiting, again.parts, again.tail) == (4, 0, old.parts, old.tail)
    assert old.replace_rows({**same, "p00008": gone()}, 5).waiting == 1


def test_an_empty_set_finds_nothing(root: DataRoot, query: Vectors) -> None:
    assert set_of().search(query, 10) == [] == set_of(sealed(root, stored(0), [])).search(query, 10)
    emptied = set_of(sealed(root, stored(20), names(20))).replace_rows(
        {entry.picture: gone() for entry in names(20)}, 1
    )
    assert emptied.search(query, 10) == [] == emptied.search(query, 10, numbered(*range(20)))
    assert set_of(sealed(root, stored(20), names(20))).search(query, 0) == []


def test_a_deep_search_keeps_its_candidates_as_halves_and_scores_some_at_a_time(root: DataRoot) -> None:
    vectors = stored(6_000, dimension=512)
    identity = replace(PICTURES, dimension=512)
    written = segment.write(root, identity, numbered_rows(vectors, names(6_000)), scan=True)
    part, query = segment.read(root, written, identity), unit(1, 7, 512)[0]
    tracemalloc.start()
    hits = find_best(part, query, 5_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * part.vectors.nbytes  # 6 MB of halves; as float32 and in double precision together it was 50
    expected = sorted(zip(-compute_scores(query, vectors), names(6_000), strict=True))[:5_000]
    assert [hit.entry for hit in hits] == [entry for _, entry in expected]


def find_expected(content: Content, query: Vectors, k: int) -> list[Hit]:
    entries = [entry for each in content.values() for entry in each.entries]
    vectors = np.concatenate([gone().vectors, *(each.vectors for each in content.values())])
    return brute_force(query, vectors, entries, k)


def check(view: MemoryTail, content: Content, query: Vectors) -> None:
    rows = [row for each in content.values() for row in zip(each.keys, each.entries, each.vectors, strict=True)]
    assert find_best(view, query, 10_000) == find_expected(content, query, 10_000)
    assert view.count == len(rows)
    for picture, each in content.items():
        found = view.read_rows(picture)
        assert (found.keys.tolist(), [*found.entries]) == (each.keys.tolist(), [*each.entries])
        assert found.vectors.tobytes() == each.vectors.tobytes()
    held = view.read_all_rows()
    sealed = [*zip(held.keys.tolist(), held.entries, (vector.tobytes() for vector in held.vectors), strict=True)]
    assert sorted(sealed) == sorted((key, entry, vector.tobytes()) for key, entry, vector in rows)


PICTURE, COUNT = st.sampled_from("abcd"), st.integers(0, 140)


FORKS = st.lists(st.tuples(st.integers(0, 20), st.dictionaries(PICTURE, COUNT, min_size=1)), max_size=12)


@given(FORKS)
def test_every_view_of_a_tree_of_changes_keeps_its_own_content(changes: list[tuple[int, dict[str, int]]]) -> None:
    """Changes start at any earlier view: several may follow the same one, on both sides of a growth of the log."""
    query, key = unit(1, seed=99)[0], 0
    views: list[tuple[MemoryTail, Content]] = [(MemoryTail.make_empty(DIMENSION), NOTHING)]
    for start, counts in changes:
        view, content = views[start % len(views)]
        blocks = {}
        for picture, count in counts.items():
            blocks[picture] = captioned(picture, stored(count, seed=key), key)
            key += count + 1
        views.append((view.replace_rows(blocks), {**content, **blocks}))
    for view, content in views:
        check(view, content, query)


def test_a_change_that_fails_leaves_no_trace(query: Vectors) -> None:
    """Neither in the view nor in what is changed next."""
    content = {name: captioned(name, stored(2, seed=ord(name)), ord(name)) for name in "abc"}
    view = MemoryTail.make_empty(DIMENSION).replace_rows(content)
    wrong = VectorRows(numbered(7), (Entry("x"),), unit(1, dimension=DIMENSION + 1))
    with pytest.raises(ValueError):
        view.replace_rows({"a": gone(), "b": captioned("b", stored(1), 500), "x": wrong})
    check(view, content, query)
    after = {**content, "d": captioned("d", stored(1), 600)}
    check(view.replace_rows({"d": after["d"]}), after, query)


def test_what_died_in_a_tail_is_given_back() -> None:
    """10,000 changes of one picture need as much memory as 1,000 do."""

    def measure_kept(changes: int) -> int:
        tracemalloc.start()
        view, vectors = MemoryTail.make_empty(DIMENSION), stored(1)
        for number in range(changes):
            view = view.replace_rows({"a": captioned("a", vectors, number)})
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert view.count == 1
        return size

    assert measure_kept(10_000) < 1.5 * measure_kept(1_000)


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_two_threads_that_change_one_view_both_get_their_own(many_switches: None, query: Vectors) -> None:
    content: Content = {"a": captioned("a", stored(3), 0)}
    changes: list[Content] = [
        {
            **{
                f"{thread}-{number}": captioned(f"{thread}-{number}", stored(2, seed=number), 2 * number)
                for number in range(60)
            },
            "a": gone(),
        }
        for thread in range(3)
    ]
    for _ in range(30):
        view, barrier = MemoryTail.make_empty(DIMENSION).replace_rows(content), Barrier(3)

        def change(mine: Content, view: MemoryTail = view, barrier: Barrier = barrier) -> MemoryTail:
            barrier.wait()
            return view.replace_rows(mine)

        with ThreadPoolExecutor(3) as threads:
            results = [*threads.map(change, changes)]
        for changed, mine in zip(results, changes, strict=True):
            check(changed, mine, query)
