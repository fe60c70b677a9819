"""Segments that no state names any more go from every machine, and not before the others have stopped to use them."""

import gc
import weakref
from pathlib import Path

import pytest

from index.segment import Segment
from index.sets import KEPT
from tests.index.world import Machines, World, nearest_captions, put, scored_pictures


def named(world: World) -> set[str]:
    return {written.id for state in world.sets.states(world.pictures()) for written in state.segments}


def test_a_machine_that_only_follows_keeps_no_more_segments_than_states_name(machines: Machines) -> None:
    live = machines.there.started()
    for seed in range(7):
        machines.here.put(f"p{seed}", seed)
        live.refresh()
        machines.here.seal()
        live.refresh()
        assert {path.name for path in machines.there.segments("pictures")} <= named(machines.here)
    assert scored_pictures(live, 3) == machines.here.nearest(3) and live.verify() == []
    assert machines.there.started().current.degraded == ()


@pytest.mark.parametrize("where", ["a folder of one machine", "a shared folder"])
def test_segments_in_a_shared_folder_stay_for_those_who_have_mapped_them(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    """NFS takes a file that was deleted elsewhere away from under whoever reads it: that is the end of the process."""
    shared = where == "a shared folder"
    world = World(tmp_path, request.getfixturevalue("postgresql_url") if shared else None)
    live = world.started()
    for seed in range(4):
        put(live, seed)
        world.seal()
    states = world.sets.states(world.pictures())
    assert {path.name for path in world.segments("pictures")} == named(world) and (len(states) > KEPT) == shared
    world.sets.retire(world.pictures(), seconds=0)
    assert {path.name for path in world.segments("pictures")} == named(world)
    assert len(world.sets.states(world.pictures())) == KEPT
    world.close()


def test_a_set_of_an_earlier_release_whose_segments_were_deleted_is_opened_again(world: World) -> None:
    pictures = [f"p{seed}" for seed in range(6)]
    for seed, picture in enumerate(pictures):
        world.put(picture, seed)
    world.teach("cy", dict.fromkeys(pictures, "ci"))
    live = world.started()
    world.registry.releases.roll_back("cy", actor="test", reason="")
    live.refresh()
    for picture in pictures[:4]:
        world.gallery.delete(picture)
        world.indexer(seal_at=1).seal(world.captions("cy", 1))
    for part in live.open(world.registry.releases.get(2)).captions["cy"].parts:
        assert isinstance(part, Segment) and (world.home / "segments" / part.written.id).exists()
    world.registry.releases.restore(2, expected=3, actor="test", reason="")
    live.refresh()
    assert nearest_captions(live, "cy", 1, "ci", 99) == [("ci", picture) for picture in sorted(pictures[4:])]


def test_what_was_sealed_leaves_memory_also_after_another_release(world: World) -> None:
    live = world.started()
    put(live, *range(4))
    tail = weakref.ref(live.current.pictures.tail)
    world.teach("cy", {"p1": "ci"})
    live.refresh()
    world.seal()
    live.refresh()
    gc.collect()
    assert live.current.release.number == 2 and live.current.pictures.tail.count == 0
    assert tail() is None
