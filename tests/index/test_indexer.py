"""Sealing and merging change no answer, and write each row a few times only."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from math import log
from typing import Any

import pytest

from index import ivf, segment
from index.gallery import Gallery
from index.indexer import Indexer
from index.set_states import NOTHING_SEALED, PartRecord
from index.sets import VectorSets
from index.vectors import VectorRows
from store import files
from store.errors import IndexFileCorrupt, RegistryUnavailable, StorageFull
from store.registry import open_registry
from tests.index.world import World, ask, interrupt, list_captions, put, score_pictures
from tests.patience import insist


def test_the_number_of_segments_is_logarithmic_and_each_row_is_written_a_few_times(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()
    real, sizes = segment.write, list[int]()

    def count_rows(root: Any, identity: Any, rows: VectorRows, *rest: Any) -> PartRecord:
        if identity.kind == "pictures":
            sizes.append(len(rows))
        return real(root, identity, rows, *rest)

    monkeypatch.setattr(segment, "write", count_rows)
    for seed in range(64):
        world.put(f"p{seed}", seed)
        world.seal()
        assert len(world.state().segments) <= 3 * (1 + log(seed + 1, 4))
    assert [written.rows for written in world.state().segments] == [64]
    assert sum(sizes) <= 64 * (1 + log(64, 4))


def test_small_segments_are_merged_however_small(world: World) -> None:
    """Below the size that is sealed together, as when an operator seals by hand."""
    live = world.serve()
    for first, next in ((0, 1), (1, 6), (6, 26)):
        put(live, *range(first, next))
        world.make_indexer().seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [1, 5, 20]
    put(live, 26)
    world.make_indexer().seal(world.pictures())
    assert [written.rows for written in world.state().segments] == [27]


def test_no_many_rows_stay_in_small_segments_beside_an_indexed_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index of few rows searches as many lists as one of all to find the nearest."""
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    live, sizes = world.serve(), list[list[int]]()
    for first, next in ((0, 40), (40, 44), (44, 49), (49, 50)):
        put(live, *range(first, next))
        world.seal(live, seal_at=1)
        sizes.append([written.rows for written in world.state().segments])
    assert sizes == [[40], [40, 4], [40, 4, 5], [50]]
    assert score_pictures(live, 7) == world.rank(7)


def test_a_segment_with_many_dead_rows_is_written_again_without_them(world: World) -> None:
    live = put(world.serve(), *range(20))
    world.seal()
    (whole,) = world.state().segments
    for seed in range(5):
        live.delete_picture(f"p{seed}")
    world.seal()
    assert world.state().segments == (whole,)  # a quarter: not worth it
    live.delete_picture("p5")
    world.seal()
    (rest,) = world.state().segments
    assert rest.rows == 14 and world.state().dead == NOTHING_SEALED.dead
    assert score_pictures(world.serve(), 7) == world.rank(7)


def test_only_sets_of_which_enough_has_changed_are_sealed_those_that_changed_most_first(world: World) -> None:
    live = put(world.serve(), *range(3))
    assert world.make_indexer(seal_at=4).list_due() == [] and world.seal(seal_at=4) == 0
    world.make_indexer().seal(world.pictures())
    put(live, 3)
    order: list[int] = []
    assert world.make_indexer(seal_at=1).list_due() == [world.captions("en", 0), world.pictures()]
    assert world.seal(seal_at=4) == 1 and world.state(world.captions("en", 0)).upto_change == 4
    assert world.make_indexer(seal_at=1).run(lambda: order.append(world.state().number)) == 1 and len(order) == 1


def test_captions_that_nobody_encoded_yet_are_left_and_the_other_sets_are_sealed(world: World) -> None:
    world.serve()
    world.put("a", 1, {"en": ["dog"]})  # by a process without a model
    assert world.seal() == 1
    assert world.state().upto_change == 1 and world.state(world.captions("en", 0)).upto_change == 0
    live = world.serve()  # encodes it
    assert world.seal() == 1 and world.state(world.captions("en", 0)).upto_change == 1
    live.refresh()
    assert list_captions(live, "a") == {"en": ["dog"]}


def test_pictures_that_nobody_encoded_yet_are_not_sealed_as_if_there_were_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of the image tower, while the API encodes them: they would be missing for ever."""
    put(world.serve(), 1, 2)
    monkeypatch.setattr(world.encoder, "image_fingerprint", "another tower")
    VectorSets(world.gallery).register(world.pictures(), NOTHING_SEALED, NOTHING_SEALED)
    world.seal()
    assert world.state().upto_change == 0
    live = world.serve()
    assert live.current.picture_set.count == 2
    world.seal()
    assert world.state().upto_change == 2 and world.serve().current.picture_set.count == 2


def test_what_is_put_while_a_segment_is_written_is_in_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = put(world.serve(), 1, 2)

    def put_meanwhile() -> None:
        put(live, 3)
        live.delete_picture("p2")

    interrupt(monkeypatch, segment, "write", put_meanwhile, 1)
    world.seal(live)
    for each in (live, world.serve()):
        assert score_pictures(each, 3) == world.rank(3) and each.current.picture_set.count == 2
        assert list_captions(each, "p3") == {"en": ["picture 3", "drawing 3"]}


def test_sealing_ends_though_pictures_are_put_all_the_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live, seeds = world.serve(), iter(range(2, 50))
    put(live, 1)
    interrupt(monkeypatch, segment, "write", lambda: put(live, next(seeds)), 40)
    world.seal()
    assert next(seeds) < 10
    assert score_pictures(world.serve(), 1) == world.rank(1)


def test_of_two_indexers_at_once_the_second_tries_again_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, sealed = world.serve(), list[int]()
    put(live, 1, 2)

    def act_as_another() -> None:
        put(live, 3)
        live.delete_picture("p1")
        sealed.append(world.seal())

    interrupt(monkeypatch, VectorSets, "register", act_as_another, 1)
    newest = world.make_indexer().seal(world.pictures())
    assert sealed == [2] and newest == world.state() and newest.upto_change == 4  # nothing older was registered
    assert world.make_indexer().seal(world.pictures()).number == newest.number  # of which nothing changed
    live.refresh()
    for each in (live, world.serve()):
        assert score_pictures(each, 3) == world.rank(3) and each.current.picture_set.count == 2


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_indexers_of_several_processes_lose_nothing(world: World) -> None:
    live = world.serve()

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
                insist(partial(live.delete_picture, f"p{seed - 1}"))
            live.refresh()
            assert score_pictures(live, 5) == world.rank(5)
    for future in running:
        assert future.exception() is None or isinstance(future.exception(), IndexFileCorrupt | RegistryUnavailable)
    world.seal(live)
    for each in (live, world.serve()):
        assert score_pictures(each, 5) == world.rank(5) and each.current.degraded == ()


Point = tuple[Any, str]
BEFORE_READING: Point = (segment, "read")
BEFORE_REGISTERING: Point = (VectorSets, "register")


def _remove_all(world: World) -> Callable[[], None]:
    def remove() -> None:
        for path in world.list_segments("pictures"):
            segment.remove(world.root, path.name)

    return remove


@pytest.mark.parametrize("point", [BEFORE_READING, BEFORE_REGISTERING], ids=["before reading", "before registering"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_segment_that_is_removed_before_it_is_registered_is_written_again_or_the_third_time_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch, point: Point, times: int
) -> None:
    put(world.serve(), 1)
    before = world.state()
    with monkeypatch.context() as patch:
        interrupt(patch, *point, _remove_all(world), times)
        with pytest.raises(IndexFileCorrupt) if times == 3 else nullcontext():
            world.make_indexer().seal(world.pictures())
    if times == 3:
        assert world.state().number == before.number
        world.seal()
    (written,) = world.state().segments
    assert segment.is_intact(world.root, written)
    live = world.serve()
    assert live.current.degraded == () and score_pictures(live, 1) == world.rank(1)


@pytest.mark.parametrize("nth", [1, 2], ids=["while sealing", "while merging"])
def test_a_full_disk_leaves_what_serves_and_sealing_goes_on_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    live = world.serve()
    for seed in range(3):
        put(live, seed)
        world.make_indexer(seal_at=1).seal(world.pictures())
    put(live, 3)
    before, state, folders = ask(live), world.state(), world.list_segments()
    free, calls = files.require_free, list[object]()

    def raise_storage_full(*given: Any) -> None:
        calls.append(given)
        if len(calls) >= nth:
            raise StorageFull
        free(*given)

    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", raise_storage_full)
        with pytest.raises(StorageFull):
            world.make_indexer(seal_at=1).seal(world.pictures())
    live.refresh()
    assert len(calls) == nth and ask(live) == before
    if nth == 1:
        assert world.state().number == state.number and world.list_segments() == folders
    else:  # what was sealed counts, although there is no room to merge it
        assert [written.rows for written in world.state().segments] == [1, 1, 1, 1]
    assert not list((world.home / "segments").glob(".tmp-*"))
    world.make_indexer(seal_at=1).seal(world.pictures())
    live.refresh()
    assert ask(live) == before and [written.rows for written in world.state().segments] == [4]
