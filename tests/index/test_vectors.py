"""Vector sets: exact answers, scores that depend on two vectors alone, tails that replace sealed entries."""

import numpy as np
import pytest

from index.engine import Candidates, Index, Matrix, Vector
from index.engine.faiss_engine import FaissEngine, FlatIndex
from index.vectors import Block, Entry, Segment, VectorSet, scores, segment
from tests.index.conftest import DIMENSION, brute_force, names, unit


def block(picture: str, vectors: Matrix) -> Block:
    return Block(tuple(Entry(picture, str(number)) for number in range(len(vectors))), vectors)


def sealed(vectors: Matrix, entries: list[Entry]) -> VectorSet:
    """A set as it was written, with an empty tail."""
    return VectorSet.from_generation("g", 0, segment(vectors, entries))


@pytest.mark.parametrize("k", [1, 3, 10, 100, 1_000])
def test_scan_finds_exactly_what_brute_force_finds(k: int) -> None:
    vectors, entries = unit(700, seed=1), names(700)
    for query in unit(5, seed=2):
        assert sealed(vectors, entries).search(query, k) == brute_force(query, vectors, entries, k)


def test_equal_vectors_are_ordered_by_entry_and_none_is_lost() -> None:
    vectors, entries = np.repeat(unit(3, seed=3), 200, axis=0), names(600)
    query = unit(3, seed=3)[1]
    shuffled = np.random.default_rng(0).permutation(600)
    hits = sealed(np.ascontiguousarray(vectors[shuffled]), [entries[row] for row in shuffled]).search(query, 250)
    assert hits == brute_force(query, vectors, entries, 250)


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1_000])
def test_a_score_has_the_same_bits_whatever_else_is_in_the_matrix(rows: int, query: Vector) -> None:
    vectors = unit(rows, seed=4, dimension=512)
    query = unit(1, seed=5, dimension=512)[0]
    together = scores(query, vectors)
    alone = np.concatenate([scores(query, vectors[row : row + 1]) for row in range(rows)])
    assert together.tobytes() == alone.tobytes()


def test_float32_products_would_differ_between_batches() -> None:
    """The precondition of the test above: the bits of a matrix product depend on its shape."""
    vectors, query = unit(1_000, seed=4, dimension=512), unit(1, seed=5, dimension=512)[0]
    alone = np.array([np.einsum("d,d->", vector, query) for vector in vectors])
    assert (vectors @ query).tobytes() != alone.tobytes()


def test_changed_set_equals_brute_force_over_what_is_left(query: Vector) -> None:
    vectors, entries = unit(300, seed=6), names(300)
    fresh = unit(40, seed=7)
    blocks = {entry.picture: Block((), vectors[:0]) for entry in entries[:30]}
    blocks |= {entries[place].picture: Block((entries[place],), fresh[place : place + 1]) for place in range(30, 40)}
    blocks |= {"new": block("new", fresh[:5])}
    changed = sealed(vectors, entries).changed(blocks, change=7)
    left = [*entries[30:40], *entries[40:], *blocks["new"].entries]
    rows = np.concatenate([fresh[30:40], vectors[40:], fresh[:5]])
    assert changed.search(query, 50) == brute_force(query, rows, left, 50)
    assert (changed.change, changed.count, changed.tail_size) == (7, len(left), 40 + 15)


def test_changing_leaves_the_old_set_as_it_was(query: Vector) -> None:
    vectors, entries = unit(50, seed=8), names(50)
    old = sealed(vectors, entries)
    before = old.search(query, 50)
    old.changed({before[0].entry.picture: Block((), vectors[:0])}, change=1)
    assert old.search(query, 50) == before


def test_a_picture_changed_twice_is_found_once(query: Vector) -> None:
    fresh = unit(2, seed=9)
    changed = (
        sealed(unit(10), names(10)).changed({"a": block("a", fresh[:1])}, 1).changed({"a": block("a", fresh[1:])}, 2)
    )
    assert [hit for hit in changed.search(query, 20) if hit.entry.picture == "a"] == [
        (Entry("a", "0"), float(scores(query, fresh[1:])[0]))
    ]
    vector = changed.vector("a")
    assert vector is not None and vector.tobytes() == fresh[1].tobytes()


def test_merging_the_tail_changes_no_answer(query: Vector) -> None:
    vectors, entries = unit(100, seed=10), names(100)
    changed = sealed(vectors, entries).changed({"p00003": Block((), vectors[:0]), "x": block("x", unit(4, seed=11))}, 1)
    merged, rows = changed.merged()
    assert merged == sorted(merged)
    assert sealed(rows, merged).search(query, 200) == changed.search(query, 200)


def test_an_empty_set_finds_nothing(query: Vector) -> None:
    assert VectorSet.empty("none", DIMENSION).search(query, 10) == []


def test_removing_everything_leaves_nothing(query: Vector) -> None:
    vectors, entries = unit(20), names(20)
    emptied = sealed(vectors, entries).changed({entry.picture: Block((), vectors[:0]) for entry in entries}, 1)
    assert emptied.search(query, 10) == [] and emptied.merged()[0] == []


class Rounding(FlatIndex):
    """A scan whose own scores have the error that float32 allows, so that its order is wrong."""

    def search(self, query: Vector, k: int, excluded: frozenset[int]) -> Candidates:
        exact = super().search(query, len(self.vectors), excluded)
        noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, len(exact.rows)).astype(np.float32)
        order = np.argsort(-(exact.scores + noise))[:k]
        return Candidates(exact.rows[order], (exact.scores + noise)[order])


@pytest.mark.parametrize("index", [FlatIndex, Rounding])
def test_candidates_in_a_slightly_wrong_order_lose_no_hit(index: type[FlatIndex]) -> None:
    """Many vectors whose scores differ by less than float32 rounding: one round of candidates is not enough."""
    query = unit(1, seed=12)[0]
    near = query + np.random.default_rng(1).standard_normal((500, DIMENSION)).astype(np.float32) * 1e-4
    vectors = np.ascontiguousarray(near / np.linalg.norm(near, axis=1, keepdims=True), dtype=np.float32)
    entries = names(500)
    assert Segment(vectors, entries, index(vectors)).top(query, 10, frozenset()) == brute_force(
        query, vectors, entries, 10
    )


@pytest.fixture(scope="module")
def ivf() -> tuple[Index, Matrix]:
    centres = unit(60, seed=20)
    rows = centres[np.arange(6_000) % 60] + unit(6_000, seed=21) * 0.35
    vectors = np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
    return FaissEngine(flat_limit=1_000).build(vectors), vectors


def test_quantised_index_recalls_nine_of_ten_and_scores_exactly(ivf: tuple[Index, Matrix]) -> None:
    index, vectors = ivf
    entries, recalled, total = names(6_000), 0, 0
    for query in vectors[::200]:
        hits = Segment(vectors, entries, index).top(query, 10, frozenset())
        truth = dict(brute_force(query, vectors, entries, 6_000))
        assert all(hit.score == truth[hit.entry] for hit in hits)
        best = brute_force(query, vectors, entries, 10)
        recalled += len({hit.entry for hit in hits} & {entry for entry, _ in best})
        total += 10
    assert not index.exact and recalled >= 0.9 * total


def test_quantised_index_never_proposes_an_excluded_row(ivf: tuple[Index, Matrix]) -> None:
    index, vectors = ivf
    excluded = frozenset(range(0, 6_000, 2))
    assert all(row % 2 for row in index.search(vectors[0], 200, excluded).rows)


def test_building_twice_gives_the_same_index(ivf: tuple[Index, Matrix]) -> None:
    index, vectors = ivf
    again = FaissEngine(flat_limit=1_000).build(vectors)
    for query in vectors[:20]:
        assert np.array_equal(index.search(query, 50, frozenset()).rows, again.search(query, 50, frozenset()).rows)
