"""What pgvector and Milvus do with rows: those of no state are invisible, dead ones go, no acknowledged one is lost."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from index.engine import EngineView
from index.engine.pgvector import PgVector
from index.janitor import sweep
from index.sealing import EngineSealer, extract_state
from index.set_states import SealedState
from index.sources import PictureSource, apply_changes
from index.vectors import Entry, Identity, VectorRows, find_best
from store.errors import IndexUnavailable
from store.registry import open_registry
from tests.doubles import Vectors
from tests.index.conftest import brute_force, clustered, names, numbered, stored, text_like, unit
from tests.index.world import World, ask, find_pictures, put

PICTURES = Identity("pictures", "f" * 64, 32)


@pytest.fixture
def world(remote: World) -> World:
    return remote


def get_engine(world: World) -> Any:
    assert world.engine is not None
    return world.engine


def count_rows(world: World, *states: SealedState) -> int:
    """Count the rows that the engine has of the runs of these states, whether anybody sees them or not."""
    runs = {each.run for state in states for each in state.segments}
    rows = get_engine(world).read_pages(EngineView(world.pictures(), tuple(runs), (), 0))
    return sum(len(each.ids) for each in rows)


def test_rows_that_no_state_names_are_in_no_answer_also_when_they_come_late(world: World) -> None:
    live = put(world.serve(), 1, 2)
    source = PictureSource.create(world.encoder, world.gallery)
    overtaken = EngineSealer(get_engine(world), world.root, most_rows=1_000)
    base = world.open_set(source)
    changed = apply_changes({source.identity: base}, {source.identity: source}, world.gallery)[source.identity]
    early = extract_state(overtaken.seal_tail(changed))  # applied, not registered: as if it had been killed now
    world.seal(live)
    before = ask(live)
    late = extract_state(overtaken.seal_tail(changed))  # a paused indexer wakes up
    assert world.sets.register(source.identity, SealedState(base.state, 0), late) is None
    assert ask(live) == before == ask(world.serve())
    live.delete_picture("p2")
    world.seal(live)
    assert find_pictures(live, 2) == ["p1"] and count_rows(world, early, late) == 4
    world.age()
    assert sweep(world.sets) == 2
    assert count_rows(world, early, late) == 0
    assert world.sets.register(source.identity, world.state(), late) is None  # nor can it be registered after that
    assert find_pictures(world.serve(), 2) == ["p1"]


def test_rows_that_no_kept_state_sees_are_removed(world: World) -> None:
    live = put(world.serve(), *range(6))
    world.seal()
    first = world.state()
    live.delete_picture("p1")
    put(live, 7)
    world.seal()
    old = live.current  # of the first state, with the rest in its tail
    assert count_rows(world, first) == 6
    for seed in (8, 9, 10):
        put(live, seed)
        world.seal()
    assert count_rows(world, first) == 6, "a process may still search in the first state"
    assert len(old.picture_set.search(stored(1, dimension=64)[0], 20)) == 6
    world.sets.retire_states(world.pictures(), seconds=0)
    put(live, 11)
    world.seal()
    assert count_rows(world, first) == 5
    live.refresh()
    assert live.current.picture_set.count == 10 == len(find_pictures(live, 1, 20))


def test_many_small_runs_become_one(world: World) -> None:
    sealing = EngineSealer(get_engine(world), world.root, most_rows=1_000, most_runs=4)
    source = PictureSource.create(world.encoder, world.gallery)
    vector_set, wanted = world.open_set(source), set[str]()
    for seed in range(8):
        rows = {f"p{seed}": VectorRows(numbered(seed + 1), (Entry(f"p{seed}"),), stored(1, seed, 64))}
        gone = {f"p{seed - 1}": VectorRows.make_empty(64)} if seed == 4 else {}
        vector_set = sealing.seal_tail(vector_set.replace_rows({**rows, **gone}, seed))
        before = extract_state(vector_set)
        vector_set = sealing.merge_parts(vector_set, [before])
        wanted = (wanted | {f"p{seed}"}) - set(gone)
        hits = vector_set.search(unit(1, 1, 64)[0], 20)
        assert {hit.entry.picture for hit in hits} == wanted and vector_set.count == len(wanted)
    assert len(extract_state(vector_set).segments) <= 5
    (view,) = world.sets.make_engine_parts(source.identity, before)
    assert {hit.entry.picture for hit in find_best(view, unit(1, 1, 64)[0], 20)} == wanted


def test_a_set_that_is_dropped_has_no_rows(world: World) -> None:
    engine, rows = get_engine(world), VectorRows(np.arange(3), names(3), stored(3).astype(np.float16))
    engine.add(PICTURES, 5, rows)
    view = EngineView(PICTURES, (5,), (), 3)
    assert sum(len(rows.ids) for rows in engine.read_pages(view)) == 3
    engine.drop(PICTURES)
    engine.drop(PICTURES)
    with pytest.raises(IndexUnavailable):
        engine.find_rows(view, "key", range(3))
    engine.add(PICTURES, 6, rows)
    assert len(engine.find_rows(replace(view, runs=(6,)), "key", range(3)).ids) == 3


# --- pgvector's HNSW index --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vectors() -> Any:
    return clustered(3_000)


@pytest.fixture
def indexed(postgresql_url: str, vectors: Vectors) -> Iterator[PgVector]:
    """Three thousand rows, of which every third is hidden, behind an HNSW index."""
    registry = open_registry(postgresql_url)
    engine = PgVector(registry, scan_limit=100)
    for run in range(3):
        rows = slice(1_000 * run, 1_000 * run + 1_000)
        keys = np.arange(rows.start, rows.stop)
        engine.add(PICTURES, run + 1, VectorRows(keys, names(1_000, rows.start), vectors[rows].astype(np.float16)))
    engine.build_index(PICTURES)
    yield engine
    registry.close()


def test_hnsw_finds_nearly_all_and_every_score_is_exact(indexed: PgVector, vectors: Any) -> None:
    entries, found = names(3_000), 0
    hidden = tuple(int(id) for run in (1, 2, 3) for id in range(run << 20, (run << 20) + 1_000, 3))
    living = [row for row in range(3_000) if (row % 1_000) % 3]
    view = EngineView(PICTURES, (1, 2, 3), hidden, len(living))
    queries = text_like(vectors, 20)
    for query in queries:
        wanted = dict(brute_force(query, vectors[living], [entries[row] for row in living], 10))
        near = indexed.find_nearest(view, query, 56, 10, None)
        assert not near.exact and len(near.scores) == 28
        scored = dict(
            brute_force(query, near.vectors.astype(np.float32), [near.entry(number) for number in range(28)], 10)
        )
        found += len(wanted.keys() & scored.keys())
        assert all(wanted[entry] == scored[entry] for entry in wanted.keys() & scored.keys())
    assert found >= 0.97 * 10 * len(queries)


def test_a_filter_that_hnsw_cannot_follow_is_answered_by_a_scan(indexed: PgVector, vectors: Any) -> None:
    query = unit(1, 9)[0]
    far = np.argsort(vectors @ query)[:20].astype(np.int64)  # the farthest of all
    near = indexed.find_nearest(EngineView(PICTURES, (1, 2, 3), (), 3_000), query, 56, 10, np.sort(far))
    assert len(near.scores) == 20 and {near.entry(number) for number in range(20)} == {names(3_000)[row] for row in far}
