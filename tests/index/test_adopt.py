"""A live index takes over what a worker sealed: no pause, no mix, nothing lost; it says so when no worker seals."""

import time
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from index import loader, segment
from index.indexer import Indexer
from index.janitor import sweep
from index.live import LiveIndex
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from index.vectors import Identity
from store.errors import IndexFileCorrupt, PictoglotError, StoreUnavailable
from store.leases import SEALING
from tests.index.world import (
    Clock,
    World,
    ask,
    fail_with,
    flip,
    interrupt,
    list_captions,
    put,
    put_picture,
    run_beside,
    score_pictures,
    wait_until,
)
from tests.patience import PATIENCE, insist


def test_what_was_sealed_is_adopted_and_the_memory_of_the_tail_is_free(world: World) -> None:
    live = put(world.serve(), *range(10))
    before = ask(live)
    assert (live.current.picture_set.tail.count, live.current.picture_set.waiting) == (10, 10)
    world.seal()
    assert live.current.picture_set.tail.count == 10  # until it looks
    assert live.refresh() and ask(live) == before
    for vector_set in live.current.sets.values():
        assert (vector_set.tail.count, vector_set.waiting) == (0, 0)
    assert not live.refresh()


def test_a_picture_put_or_deleted_while_a_state_is_adopted_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = put(world.serve(), *range(6))
    world.seal()

    def change_meanwhile() -> None:
        put(live, 7)
        live.delete_picture("p2")
        world.put("p9", 9)

    interrupt(monkeypatch, segment, "read", change_meanwhile)
    live.refresh()
    assert score_pictures(live, 7) == world.rank(7) and list_captions(live, "p2") == {}
    assert list_captions(live, "p7") == {"en": ["picture 7", "drawing 7"]}


def test_searches_go_on_and_are_right_while_states_are_sealed_and_adopted(world: World) -> None:
    """Each answer is that of one state: pictures of the first half stay where they are in every ranking."""
    live = put(world.serve(), *range(12))
    whole = {hit[0]: hit[1] for hit in score_pictures(live, 3)}
    wrong, searches = list[object](), [0, 0]

    def search(thread: int, stop: Event) -> None:
        while not stop.is_set():
            found = score_pictures(live, 3)
            names = [name for name, _ in found]
            kept = {name: score for name, score in found if name in whole}
            if kept != whole or len(set(names)) != len(names) or names[0] != "p3":
                wrong.append(found)
            searches[thread] += 1

    def seal(stop: Event) -> None:
        while not stop.is_set():
            insist(world.seal)

    with run_beside(partial(search, 0), partial(search, 1), seal):
        deadline, states, seed = time.monotonic() + PATIENCE, set[int](), 100
        while (len(states) < 8 or min(searches) < 200) and time.monotonic() < deadline:
            put(live, seed)
            put_picture(live, "changing", seed)
            live.refresh()
            states.add(live.current.picture_set.state)
            seed += 1
    assert wrong == [] and len(states) >= 8 and min(searches) >= 200
    live.refresh()
    assert score_pictures(live, 3) == world.rank(3)


def test_late_tells_when_no_worker_seals(world: World) -> None:
    live = put(world.serve(seal_at=2), *range(8))
    assert live.overdue_count == 0
    put(live, 8)
    assert live.overdue_count == 9
    world.seal(live)
    assert live.overdue_count == 0


def test_a_state_that_was_retired_while_it_was_opened_costs_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process was slow: two newer states exist, and the files of the one it reads are gone."""
    live = put(world.serve(), *range(6))
    world.seal()

    def overtake() -> None:
        for seed in range(20, 26):
            world.put(f"p{seed}", seed)
            world.seal()
        sweep(world.sets, seconds=0)

    interrupt(monkeypatch, segment, "read", overtake)
    live.refresh()
    assert score_pictures(live, 3) == world.rank(3) and live.current.degraded == (), "it opens the newest one"
    monkeypatch.undo()
    live.refresh()
    assert score_pictures(live, 3) == world.rank(3) and live.current.degraded == ()


def test_a_release_that_is_published_during_an_adoption_keeps_its_own_sets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.teach("cy")
    live = world.serve()
    candidate = live.open(world.registry.releases.get(1))
    world.put("b", 2, {"cy": ["cath"]})
    live.refresh()
    world.seal()
    readable = VectorSets.open_sealed

    def overtake(sets: VectorSets, identity: Identity, *rest: Any) -> object:
        if identity.language == "cy":
            live.publish(candidate)
        return readable(sets, identity, *rest)

    monkeypatch.setattr(VectorSets, "open_sealed", overtake)
    monkeypatch.setattr(world.registry.releases, "get_serving", lambda: live.current.release)
    live.refresh()
    assert live.current.release.number == 1 and set(live.current.captions) == {"en"}


FIRST = 5  # changes that are sealed before a set is opened


def take_sealing_duty(world: World) -> None:
    """Seal as a worker, from now on."""
    assert world.registry.duties.take(SEALING, "a worker", 600)


def give_back_sealing_duty(world: World) -> None:
    world.registry.duties.give_back(SEALING, "a worker")


def free(world: World) -> bool:
    taken = world.registry.duties.take(SEALING, "a test", 600)
    world.registry.duties.give_back(SEALING, "a test")
    return taken


def test_an_api_that_starts_far_behind_waits_for_the_worker_that_seals(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_many(12)
    VectorSets(world.gallery).ensure_registered(world.pictures())
    take_sealing_duty(world)
    waits = list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert sum(row.rows for row in world.state().segments) == 0
        if len(waits) == 3:
            world.seal()
            give_back_sealing_duty(world)

    monkeypatch.setattr(loader, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=wait))
    live = world.serve(seal_first=FIRST)
    assert len(waits) == 3 and live.current.picture_set.tail.count == 0
    assert score_pictures(live, 3) == world.rank(3)


def test_when_the_worker_takes_too_long_the_changes_stay_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_many(12)
    take_sealing_duty(world)
    monkeypatch.setattr(loader, "PATIENCE", 0.0)
    live = world.serve(seal_first=FIRST)
    assert world.state().segments == () and live.current.picture_set.tail.count == 12
    assert score_pictures(live, 3) == world.rank(3)


def test_without_a_worker_an_api_seals_and_gives_the_duty_back(world: World) -> None:
    world.put_many(12)
    live = world.serve(seal_first=FIRST)
    assert live.current.picture_set.tail.count == 0 and [each.rows for each in world.state().segments] == [12]
    assert free(world)


def test_a_set_that_a_worker_begins_anew_is_served_as_it_was_until_it_is_sealed(world: World) -> None:
    live = put(world.serve(seal_first=FIRST), *range(12))
    world.seal(live)
    before, opened = ask(live), live.current.picture_set
    world.sets.register(world.pictures(), world.state(), NOTHING_SEALED)
    take_sealing_duty(world)
    live.refresh()
    live.refresh()
    assert live.current.picture_set is opened and ask(live) == before and world.state().segments == ()
    put(live, 12)
    assert score_pictures(live, 12) == world.rank(12)
    give_back_sealing_duty(world)
    live.refresh()
    assert world.state().segments and live.current.picture_set.state == world.state().number
    assert score_pictures(live, 12) == world.rank(12) and free(world)


def test_what_is_damaged_is_made_again_when_no_worker_seals(world: World) -> None:
    live = put(world.serve(), *range(6))
    world.seal()
    for folder in world.list_segments("pictures"):
        flip(folder / "rows.safetensors")
    take_sealing_duty(world)
    clock = Clock()
    tried, live = world.serve(clock=clock), world.serve(clock=clock)
    clock.now += 61
    tried.refresh()
    tried._background.submit(int).result()  # what it does at the start, and after a minute again, was before this
    assert tried.current.degraded and not all(segment.is_intact(world.root, each) for each in world.state().segments)
    give_back_sealing_duty(world)
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert live.verify() == [] and free(world)


def test_damage_is_mended_once_however_long_it_takes_and_none_after_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.serve(), *range(6))
    world.seal()
    clock, real, begun, go_on = Clock(), Indexer.seal, list[Identity](), Event()

    def seal(indexer: Indexer, identity: Identity) -> object:
        begun.append(identity)
        assert go_on.wait(PATIENCE)
        return real(indexer, identity)

    def serve_damaged() -> LiveIndex:
        begun.clear()
        go_on.clear()
        for folder in world.list_segments():  # of pictures and of captions
            flip(folder / "rows.safetensors")
        live = world.serve(clock=clock)
        wait_until(lambda: begun)
        return live

    monkeypatch.setattr(Indexer, "seal", seal)
    live = serve_damaged()
    for _ in range(3):
        clock.now += 61
        live.refresh()
    go_on.set()
    wait_until(lambda: not live.current.degraded)
    live._background.submit(int).result()
    assert len(begun) == len({*begun}) == 2
    live = serve_damaged()
    closing = Thread(target=live.close)
    closing.start()
    wait_until(lambda: live._background._shutdown)
    go_on.set()
    closing.join()
    assert len(begun) == 1


@pytest.mark.row("I1", "I2")
def test_a_large_segment_that_is_damaged_is_made_again_before_it_is_opened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = put(world.serve(), *range(8))
    before = ask(live)
    world.seal()
    flip(world.list_segments("pictures")[0] / "rows.safetensors")
    monkeypatch.setattr(loader, "MOST", 7)
    monkeypatch.setattr(loader, "add_lost_rows", refuse_to_fill)
    with world.registry.duties.hold(SEALING, "another", 60.0):
        assert not world.make_live().start(), "another process seals"
    live = world.serve()
    assert ask(live) == before and live.current.degraded == () and live.verify() == []


def test_a_large_segment_that_cannot_be_opened_is_not_read_at_every_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, tried = Clock(), list[Identity]()
    live = put(world.serve(clock=clock), *range(8))
    world.seal()

    def read(_: object, __: object, identity: Identity, *___: object) -> Any:
        tried.append(identity)
        raise IndexFileCorrupt

    monkeypatch.setattr(loader, "MOST", 7)
    monkeypatch.setattr(segment, "read", read)
    take_sealing_duty(world)  # so that nobody makes it again
    for looks in (1, 2):
        for _ in range(3):
            live.refresh()
        assert tried.count(world.pictures()) == looks and live.current.degraded
        clock.now += 61


def test_a_repair_gives_the_duty_back_before_it_waits_for_a_release_that_is_opened(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens that release may wait for the duty."""
    put(world.serve(), *range(6))
    world.seal()
    flip(world.list_segments("pictures")[0] / "rows.safetensors")
    clock, real, begun, go_on = Clock(), world.encoder.open, Event(), Event()
    take_sealing_duty(world)
    live = world.serve(clock=clock)
    live._background.submit(int).result()
    give_back_sealing_duty(world)

    def open_slowly(*given: Any, **more: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        return real(*given, **more)

    monkeypatch.setattr(world.encoder, "open", open_slowly)
    opening = Thread(target=live.open, args=(world.teach("cy"),))
    opening.start()
    assert begun.wait(PATIENCE)
    clock.now += 61
    put(live, 6)
    wait_until(lambda: all(segment.is_intact(world.root, each) for each in world.state().segments))
    try:
        wait_until(lambda: free(world))
    finally:
        go_on.set()
        opening.join()
    wait_until(lambda: not live.current.degraded)


def refuse_to_fill(_: object, readable: Any, lost: Any) -> Any:
    """Stand for `add_lost_rows` where no rows may be read into memory."""
    assert not lost
    return readable


@pytest.mark.parametrize("error", [StoreUnavailable(), IndexFileCorrupt()])
def test_while_a_large_segment_cannot_be_opened_what_was_open_serves(
    world: World, monkeypatch: pytest.MonkeyPatch, error: PictoglotError
) -> None:
    clock = Clock()
    live = put(world.serve(clock=clock), *range(8))
    before = ask(live)
    world.seal()
    monkeypatch.setattr(loader, "MOST", 7)
    monkeypatch.setattr(loader, "add_lost_rows", refuse_to_fill)
    with monkeypatch.context() as patch:
        patch.setattr(segment, "read", fail_with(error))
        patch.setattr(segment, "fetch", fail_with(error))
        live.refresh()
        live.delete_picture("p3")
        assert error.detail in live.current.degraded and score_pictures(live, 3) == world.rank(3)
    put(live, 3)
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert ask(live)[0] == before[0] and len(live.current.picture_set.parts) == 1
