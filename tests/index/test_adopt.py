"""A live index takes over what a worker sealed: no pause, no mix, nothing lost; it says so when no worker seals."""

import time
from threading import Event, Thread
from typing import Any

import pytest

from index import loader as loader_module
from index import segment
from index.live import LiveIndex
from index.sets import VectorSets
from index.states import Written
from index.sweep import sweep
from index.vectors import Identity
from store import files
from store.errors import StorageFull
from tests.index.world import World, answers, captions_of, interrupted, put, put_picture, scored_pictures
from tests.patience import PATIENCE, insisting


def test_what_was_sealed_is_adopted_and_the_memory_of_the_tail_is_free(world: World) -> None:
    live = world.started()
    put(live, *range(10))
    before = answers(live)
    assert (live.current.pictures.tail.count, live.current.pictures.waiting) == (10, 10)
    world.seal()
    assert live.current.pictures.tail.count == 10  # until it looks
    assert live.refresh() and answers(live) == before
    for vector_set in live.current.sets.values():
        assert (vector_set.tail.count, vector_set.waiting) == (0, 0)
    assert not live.refresh()


def test_segments_that_are_open_are_not_opened_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live, read = world.started(), list[str]()
    put(live, *range(10))
    world.seal()
    live.refresh()
    put(live, 11)
    live.delete_picture("p3")
    world.seal()
    real = segment.read

    def noted(root: object, written: Written, *rest: object) -> segment.Segment:
        read.append(written.id)
        return real(root, written, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(segment, "read", noted)
    assert live.refresh()
    old, new = (written.id for written in world.state().segments)
    assert new in read and old not in read
    assert scored_pictures(live, 3) == world.nearest(3)


def test_a_picture_put_or_deleted_while_a_state_is_adopted_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = world.started()
    put(live, *range(6))
    world.seal()

    def meanwhile() -> None:
        put(live, 7)
        live.delete_picture("p2")
        world.put("p9", 9)

    interrupted(monkeypatch, segment, "read", meanwhile)
    live.refresh()
    assert scored_pictures(live, 7) == world.nearest(7) and captions_of(live, "p2") == {}
    assert captions_of(live, "p7") == {"en": ["picture 7", "drawing 7"]}


def test_searches_go_on_and_are_right_while_states_are_sealed_and_adopted(world: World) -> None:
    """Each answer is that of one state: pictures of the first half stay where they are in every ranking."""
    live = world.started()
    put(live, *range(12))
    whole = {hit[0]: hit[1] for hit in scored_pictures(live, 3)}
    stop, wrong, searches = Event(), list[object](), [0, 0]

    def search(thread: int) -> None:
        while not stop.is_set():
            found = scored_pictures(live, 3)
            names = [name for name, _ in found]
            kept = {name: score for name, score in found if name in whole}
            if kept != whole or len(set(names)) != len(names) or names[0] != "p3":
                wrong.append(found)
            searches[thread] += 1

    def seal() -> None:
        while not stop.is_set():
            insisting(world.seal)

    threads = [Thread(target=search, args=(0,)), Thread(target=search, args=(1,)), Thread(target=seal)]
    for thread in threads:
        thread.start()
    try:
        deadline, states, seed = time.monotonic() + PATIENCE, set[int](), 100
        while (len(states) < 8 or min(searches) < 200) and time.monotonic() < deadline:
            put(live, seed)
            put_picture(live, "changing", seed)
            live.refresh()
            states.add(live.current.pictures.state)
            seed += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == [] and len(states) >= 8 and min(searches) >= 200
    live.refresh()
    assert scored_pictures(live, 3) == world.nearest(3)


def test_late_tells_when_no_worker_seals(world: World) -> None:
    live = world.started(seal_at=2)
    put(live, *range(8))
    assert live.late == 0
    put(live, 8)
    assert live.late == 9
    world.seal()
    live.refresh()
    assert live.late == 0


@pytest.mark.parametrize("known", [False, True], ids=["that is new", "that was opened before"])
def test_a_set_far_behind_is_sealed_before_it_is_opened(world: World, known: bool) -> None:
    """Its changes may not fit into memory: after an import without a worker, or the first start of a new release."""
    if known:
        world.started()
    for seed in range(12):
        world.put(f"p{seed}", seed)
    live = world.started(seal_first=10)
    assert live.current.pictures.tail.count == 0 and world.state().upto_change == 12
    assert scored_pictures(live, 3) == world.nearest(3)
    put(live, 12)
    again = world.started(seal_first=10)
    assert again.current.pictures.tail.count == 1 and scored_pictures(again, 3) == world.nearest(3)


def test_a_set_far_behind_is_served_from_memory_when_the_disk_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        world.put(f"p{seed}", seed)

    def full(*_: object) -> None:
        raise StorageFull

    monkeypatch.setattr(files, "require_free", full)
    live = world.started(seal_first=10)
    assert scored_pictures(live, 3) == world.nearest(3) and live.current.pictures.tail.count == 12


def test_a_state_that_was_retired_while_it_was_opened_costs_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process was slow: two newer states exist, and the files of the one it reads are gone."""
    live = world.started()
    put(live, *range(6))
    world.seal()

    def overtaken() -> None:
        for seed in range(20, 26):
            world.put(f"p{seed}", seed)
            world.seal()
        sweep(world.sets, seconds=0)

    interrupted(monkeypatch, segment, "read", overtaken)
    live.refresh()
    assert scored_pictures(live, 3) == world.nearest(3)
    monkeypatch.undo()
    live.refresh()
    assert scored_pictures(live, 3) == world.nearest(3) and live.current.degraded == ()


def test_a_release_that_is_published_during_an_adoption_keeps_its_own_sets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.teach("cy")
    live = world.started()
    candidate = live.open(world.registry.releases.get(1))
    world.put("b", 2, {"cy": ["cath"]})
    live.refresh()
    world.seal()
    readable = VectorSets.readable

    def overtaken(sets: VectorSets, identity: Identity, *rest: Any) -> object:
        if identity.language == "cy":
            live.publish(candidate)
        return readable(sets, identity, *rest)

    monkeypatch.setattr(VectorSets, "readable", overtaken)
    monkeypatch.setattr(world.registry.releases, "serving", lambda: live.current.release)
    live.refresh()
    assert live.current.release.number == 1 and set(live.current.captions) == {"en"}


def test_a_live_index_itself_seals_nothing(world: World) -> None:
    live: LiveIndex = world.started()
    put(live, *range(20))
    live.refresh()
    live.close()
    assert world.state().segments == () and not world.segments()
    assert loader_module.SEAL_FIRST > 4_096
