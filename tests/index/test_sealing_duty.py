"""An API process seals only while it has the duty; while a worker has it, it goes on with what it serves."""

from types import SimpleNamespace

import pytest

from index import loader, segment
from index.sets import VectorSets
from index.states import NOTHING
from store.leases import SEALING
from tests.index.world import Clock, World, answers, flip, interrupted, put, scored_pictures, wait_until

FIRST = 5  # changes that are sealed before a set is opened


def busy(world: World) -> None:
    """A worker seals."""
    assert world.registry.duties.take(SEALING, "a worker", 600)


def idle(world: World) -> None:
    world.registry.duties.give_back(SEALING, "a worker")


def free(world: World) -> bool:
    """Whether nobody has the duty."""
    taken = world.registry.duties.take(SEALING, "a test", 600)
    world.registry.duties.give_back(SEALING, "a test")
    return taken


def test_an_api_that_starts_far_behind_waits_for_the_worker_that_seals(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        world.put(f"p{seed}", seed)
    VectorSets(world.gallery).begin(world.pictures())
    busy(world)
    waits = list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert sum(row.rows for row in world.state().segments) == 0
        if len(waits) == 3:
            world.seal()
            idle(world)

    monkeypatch.setattr(loader, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=wait))
    live = world.started(seal_first=FIRST)
    assert len(waits) == 3 and live.current.pictures.tail.count == 0
    assert scored_pictures(live, 3) == world.nearest(3)


def test_when_the_worker_takes_too_long_the_changes_stay_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        world.put(f"p{seed}", seed)
    busy(world)
    monkeypatch.setattr(loader, "PATIENCE", 0.0)
    live = world.started(seal_first=FIRST)
    assert world.state().segments == () and live.current.pictures.tail.count == 12
    assert scored_pictures(live, 3) == world.nearest(3)


def test_without_a_worker_an_api_seals_and_gives_the_duty_back(world: World) -> None:
    for seed in range(12):
        world.put(f"p{seed}", seed)
    live = world.started(seal_first=FIRST)
    assert live.current.pictures.tail.count == 0 and [each.rows for each in world.state().segments] == [12]
    assert free(world)


def test_a_set_that_a_worker_begins_anew_is_served_as_it_was_until_it_is_sealed(world: World) -> None:
    live = world.started(seal_first=FIRST)
    put(live, *range(12))
    world.seal()
    live.refresh()
    before, opened = answers(live), live.current.pictures
    world.sets.register(world.pictures(), world.state(), NOTHING)
    busy(world)
    live.refresh()
    live.refresh()
    assert live.current.pictures is opened and answers(live) == before and world.state().segments == ()
    put(live, 12)
    assert scored_pictures(live, 12) == world.nearest(12)
    idle(world)
    live.refresh()
    assert world.state().segments and live.current.pictures.state == world.state().number
    assert scored_pictures(live, 12) == world.nearest(12) and free(world)


def test_what_is_damaged_is_made_again_when_no_worker_seals(world: World) -> None:
    live = world.started()
    put(live, *range(6))
    world.seal()
    for folder in world.segments("pictures"):
        flip(folder / "rows.safetensors")
    busy(world)
    clock = Clock()
    tried, live = world.started(clock=clock), world.started(clock=clock)
    clock.now += 61
    tried.refresh()
    tried.close()  # waits for what it does in the background: at the start, and after a minute again
    assert tried.current.degraded and not all(segment.intact(world.root, each) for each in world.state().segments)
    idle(world)
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert live.verify() == [] and free(world)


def test_an_opening_that_is_overtaken_opens_the_newest_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process merges the segments and removes them between the reading of the state and of its files."""
    put(world.started(), 0)
    for seed in (1, 2, 3):
        world.seal()
        world.put(f"p{seed}", seed)
    old = world.state()

    def merge() -> None:
        world.seal()
        world.seal()
        world.sets.retire(world.pictures())
        for written in old.segments:
            segment.remove(world.root, written.id)

    with monkeypatch.context() as patch:
        interrupted(patch, segment, "read", merge)
        live = world.started()
    assert not {each.id for each in old.segments} & {each.id for each in world.state().segments}
    assert live.current.degraded == () and live.current.pictures.state == world.state().number
    assert scored_pictures(live, 3) == world.nearest(3)
