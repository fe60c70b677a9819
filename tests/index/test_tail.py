"""The tail: every view answers as when it was made, whatever is added, replaced or deleted later, and by whom."""

import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.vectors import Entry, Hit, MemoryTail, VectorRows, find_best
from tests.doubles import Vectors
from tests.index.conftest import DIMENSION, brute_force, captioned, gone, numbered, stored, unit

Content = Mapping[str, VectorRows]  # what a tail should have, by picture
NOTHING: Content = {}


def find_expected(content: Content, query: Vectors, k: int) -> list[Hit]:
    entries = [entry for each in content.values() for entry in each.entries]
    vectors = np.concatenate([gone().vectors, *(each.vectors for each in content.values())])
    return brute_force(query, vectors, entries, k)


def check(view: MemoryTail, content: Content, query: Vectors) -> None:
    """Check everything that a view answers."""
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
