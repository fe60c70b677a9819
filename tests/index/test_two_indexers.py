"""An indexer loses nothing to another one, to a sweeper or to a full disk: it tries again, or leaves what is served."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from index import segment
from index.gallery import Gallery
from index.indexer import Indexer
from index.sets import VectorSets
from index.states import State
from store import files
from store.errors import IndexFileCorrupt, RegistryUnavailable, StorageFull
from store.registry import open_registry
from tests.index.world import World, answers, interrupted, put, scored_pictures
from tests.patience import insisting


def test_an_indexer_whose_base_is_old_registers_nothing(world: World) -> None:
    put(world.started(), 1)
    sets, old = VectorSets(world.gallery), world.state()
    world.seal()
    newest = world.state()
    assert sets.register(world.pictures(), old, State(0, 9)) is None
    assert world.state() == newest and world.state().number == newest.number


def test_of_two_indexers_at_once_the_second_tries_again_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, sealed = world.started(), list[int]()
    put(live, 1, 2)

    def other() -> None:
        put(live, 3)
        live.delete_picture("p1")
        sealed.append(world.seal())

    interrupted(monkeypatch, VectorSets, "register", other, 1)
    first = world.state()
    newest = world.indexer().seal(world.pictures())
    assert sealed == [2] and newest == world.state() and newest.number > first.number
    live.refresh()
    for each in (live, world.started()):
        assert scored_pictures(each, 3) == world.nearest(3) and each.current.pictures.count == 2


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_indexers_of_several_processes_lose_nothing(world: World) -> None:
    live = world.started()

    def seal() -> None:
        registry = open_registry(world.registry.engine.url.render_as_string(hide_password=False))
        indexer = Indexer(VectorSets(Gallery(registry, world.root)), seal_at=1)
        for _ in range(12):
            indexer.run()
        registry.close()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(seal) for _ in range(2)]
        for seed in range(24):
            put(live, seed)
            if seed % 4 == 3:
                insisting(partial(live.delete_picture, f"p{seed - 1}"))
            live.refresh()
            assert scored_pictures(live, 5) == world.nearest(5)
    for future in running:
        assert future.exception() is None or isinstance(future.exception(), IndexFileCorrupt | RegistryUnavailable)
    world.seal()
    live.refresh()
    for each in (live, world.started()):
        assert scored_pictures(each, 5) == world.nearest(5) and each.current.degraded == ()


Point = tuple[Any, str]
BEFORE_READING: Point = (segment, "read")
BEFORE_REGISTERING: Point = (VectorSets, "register")


def _remove_all(world: World) -> Callable[[], None]:
    def remove() -> None:
        for path in world.segments("pictures"):
            segment.remove(world.root, path.name)

    return remove


@pytest.mark.parametrize("point", [BEFORE_READING, BEFORE_REGISTERING], ids=["before reading", "before registering"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_segment_that_is_removed_before_it_is_registered_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch, point: Point, times: int
) -> None:
    put(world.started(), 1)
    with monkeypatch.context() as patch:
        interrupted(patch, *point, _remove_all(world), times)
        world.indexer().seal(world.pictures())
    (written,) = world.state().segments
    assert segment.intact(world.root, written)
    assert world.started().current.degraded == ()


@pytest.mark.parametrize("point", [BEFORE_READING, BEFORE_REGISTERING], ids=["before reading", "before registering"])
def test_the_third_time_is_an_error_and_nothing_is_registered(
    world: World, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    put(world.started(), 1)
    before = world.state()
    with monkeypatch.context() as patch:
        interrupted(patch, *point, _remove_all(world), 3)
        with pytest.raises(IndexFileCorrupt):
            world.indexer().seal(world.pictures())
    assert world.state().number == before.number
    world.seal()
    assert scored_pictures(world.started(), 1) == world.nearest(1)


@pytest.mark.parametrize("nth", [1, 2], ids=["while sealing", "while merging"])
def test_a_full_disk_leaves_what_serves_and_sealing_goes_on_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    live = world.started()
    for seed in range(3):
        put(live, seed)
        world.indexer(seal_at=1).seal(world.pictures())
    put(live, 3)
    before, state, folders = answers(live), world.state(), world.segments()
    free, calls = files.require_free, list[object]()

    def full(*given: Any) -> None:
        calls.append(given)
        if len(calls) >= nth:
            raise StorageFull
        free(*given)

    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", full)
        with pytest.raises(StorageFull):
            world.indexer(seal_at=1).seal(world.pictures())
    live.refresh()
    assert len(calls) == nth and answers(live) == before
    if nth == 1:
        assert world.state().number == state.number and world.segments() == folders
    else:  # what was sealed counts, although there is no room to merge it
        assert [written.rows for written in world.state().segments] == [1, 1, 1, 1]
    assert not list((world.home / "segments").glob(".tmp-*"))
    world.indexer(seal_at=1).seal(world.pictures())
    live.refresh()
    assert answers(live) == before and [written.rows for written in world.state().segments] == [4]
