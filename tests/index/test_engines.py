"""What every engine promises, whichever keeps what is sealed: one suite for segments on disk, pgvector and Milvus."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from index import set_states
from index.gallery import NewPicture
from index.janitor import sweep
from index.live import LiveIndex
from index.snapshot import Snapshot
from index.vectors import Entry, Hit
from tests.doubles import DIMENSION, Vectors
from tests.index.conftest import Keys, brute_force, numbered
from tests.index.conftest import unit as units
from tests.index.world import World, ask, digest, kill_at, put

unit = partial(units, dimension=DIMENSION)


@pytest.fixture
def world(empty: World) -> World:
    """An empty gallery whose vector sets one engine after the other keeps."""
    return empty


def add(world: World, vectors: Vectors, first: int = 0) -> None:
    pictures = [
        NewPicture(f"p{number:03d}", digest(number), 9, 9, None, vector) for number, vector in enumerate(vectors, first)
    ]
    world.gallery.put(pictures, world.encoder.image_fingerprint)


def change(world: World, number: int, vector: Vectors, seed: int) -> None:
    """Put another content in the place of a picture."""
    id, fingerprint = f"p{number:03d}", world.encoder.image_fingerprint
    world.gallery.put([NewPicture(id, digest(seed), 9, 9, None, vector)], fingerprint)


def find_expected(world: World, query: Vectors, k: int, allowed: Keys | None = None) -> list[Hit]:
    """Find hits from the tables alone: slow, obvious, exact."""
    placed = world.gallery.find_content_keys(world.gallery.list_ids())
    ids = [id for id, place in placed.items() if allowed is None or place.key in allowed]
    vectors = world.gallery.find_picture_vectors(ids, world.encoder.image_fingerprint)
    if not ids:
        return []
    hits = brute_force(query, np.stack([vectors[id] for id in ids]), [Entry(id) for id in ids], len(ids))
    capped = [Hit(hit.entry, min(hit.score, 1.0)) for hit in hits]  # halves are of unit length up to rounding
    return sorted(capped, key=lambda hit: (-hit.score, hit.entry))[:k]


def search(live: LiveIndex | Snapshot, query: Vectors, k: int, allowed: Keys | None = None) -> list[Hit]:
    snapshot = live.current if isinstance(live, LiveIndex) else live
    return snapshot.picture_set.search(query, k, allowed)


@pytest.fixture
def mixed(world: World) -> LiveIndex:
    """Sixty pictures, sealed in three steps, of which some were deleted and replaced since; and five in the tail."""
    vectors, live = unit(80), world.serve()
    for first in (0, 20, 40):
        add(world, vectors[first : first + 20], first)
        world.seal()
    for number in (3, 25, 59):
        world.gallery.delete(f"p{number:03d}")
    change(world, 7, unit(1, seed=7)[0], 107)
    world.seal()
    change(world, 44, unit(1, seed=8)[0], 108)
    world.gallery.delete("p010")
    add(world, vectors[75:], 75)
    live.refresh()
    return live


@pytest.mark.parametrize("k", [1, 7, 40, 200])
def test_scores_and_order_are_those_of_an_exact_scan(world: World, mixed: LiveIndex, k: int) -> None:
    assert mixed.current.picture_set.count == 61
    for query in unit(6, seed=1):
        assert search(mixed, query, k) == find_expected(world, query, k)


def test_a_filter_of_any_size_leaves_what_is_allowed(world: World, mixed: LiveIndex) -> None:
    keys = sorted(place.key for place in world.gallery.find_content_keys(world.gallery.list_ids()).values())
    some = np.random.default_rng(0).permutation(keys)
    sizes = [numbered(*sorted(some[:size].tolist())) for size in (0, 1, 9, len(keys))]
    many = np.arange(11_000, dtype=np.int64)  # more than are compared one by one, most of them of no picture
    for allowed in (*sizes, numbered(10**9), many, 2 * many):
        for query in unit(2, seed=2):
            assert search(mixed, query, 10, allowed) == find_expected(world, query, 10, allowed)


def test_equal_scores_are_ordered_by_entry(world: World) -> None:
    same, live = np.repeat(unit(1, seed=5), 12, axis=0), world.serve()
    add(world, same)
    add(world, unit(20), 20)
    world.seal()
    add(world, same[:4], 40)
    live.refresh()
    hits = search(live, same[0], 16)
    assert [hit.entry.picture for hit in hits] == [f"p{number:03d}" for number in (*range(12), *range(40, 44))]
    assert hits == find_expected(world, same[0], 16)


def test_rows_texts_and_count_are_those_of_the_gallery(world: World) -> None:
    live = put(world.serve(), *range(4))
    world.seal()
    world.put("p1", 1, {"en": ["a picture “quoted\" with 'both'", "ein\nBild ü"]})
    live.delete_picture("p2")
    live.refresh()
    for sealed in range(2):
        captions = live.current.captions["en"]
        assert captions.count == 6
        texts = [entry.text for entry in captions.read_rows("p1").entries]
        assert texts == ["a picture “quoted\" with 'both'", "ein\nBild ü"]
        assert len(captions.read_rows("p2")) == len(live.current.picture_set.read_rows("p2")) == 0
        (stored,) = world.gallery.find_picture_vectors(["p3"], world.encoder.image_fingerprint).values()
        assert live.current.find_picture_vector("p3").tobytes() == stored.tobytes()
        if not sealed:
            world.seal(live)
            assert live.current.captions["en"].tail.count == 0


def test_a_pinned_view_answers_the_same_whatever_is_sealed_later(world: World) -> None:
    live, pinned = world.serve(), list[tuple[Snapshot, list[list[Hit]]]]()
    vectors, queries = unit(70), unit(3, seed=3)

    def pin() -> None:
        live.refresh()
        pinned.append((live.current, [search(live, query, 30) for query in queries]))
        assert pinned[-1][1] == [find_expected(world, query, 30) for query in queries]

    for step in range(6):
        add(world, vectors[10 * step : 10 * step + 10], 10 * step)
        pin()
        world.seal()
        pin()
        world.gallery.delete(f"p{10 * step:03d}")
        change(world, 10 * step + 1, unit(1, seed=step + 50)[0], 100 + step)
        pin()
    for snapshot, before in pinned:
        assert [search(snapshot, query, 30) for query in queries] == before


def list_fault_points(index: str) -> Sequence[str]:
    writing = ("files.renamed:1",) if index == "faiss" else ("engine.added:1", "engine.added:2")
    return (*writing, "indexer.written:1", "indexer.registered:1", "indexer.registered:2")


@pytest.mark.faults
def test_an_indexer_that_is_killed_changes_no_answer_and_the_next_one_finishes(world: World, index: str) -> None:
    live = world.serve()
    for number, point in enumerate(list_fault_points(index)):
        put(live, 2 * number, 2 * number + 1)
        live.delete_picture(f"p{2 * number}")
        before = ask(live)
        kill_at(world, "world.seal()", point, index)
        live.refresh()
        assert ask(live) == before == ask(world.serve())
        world.seal(live)
        assert ask(live) == before
    world.age()
    sweep(world.sets)
    left = {path.name for path in (world.home / "segments").glob("*")}
    states = world.sets.list_states(world.pictures()) + world.sets.list_states(world.captions("en", 0))
    assert left == ({each.id for state in states for each in state.segments} if index == "faiss" else set())
    assert ask(world.serve()) == before


def test_a_process_that_missed_deletions_opens_its_sets_again(world: World) -> None:
    here, behind = world.serve(), world.serve()
    put(here, *range(6))
    world.seal()
    behind.refresh()
    for seed in (1, 2):
        here.delete_picture(f"p{seed}")
    for seed in (7, 8):
        put(here, seed)
        world.seal()
    for identity in (world.pictures(), world.captions("en", 0)):
        world.sets.retire_states(identity, seconds=0)
    assert set_states.prune_feed(world.registry) == 2
    for live in (behind, here):
        live.refresh()
    assert ask(behind) == ask(here) == ask(world.serve())
    assert behind.current.picture_set.count == 6 and len(behind.current.picture_set.read_rows("p1")) == 0
