"""Two machines, each with a data root, one registry and one object store: what one writes, the other serves."""

import shutil
from pathlib import Path

import pytest

from index.sets import VectorSets
from index.sweep import sweep
from store import files
from store.errors import StorageFull, StoreUnavailable, VersionCorrupt
from store.objects import Objects
from tests.index.world import (
    Machines,
    World,
    content,
    flip,
    nearest_captions,
    nearest_pictures,
    scored_pictures,
    wait_until,
)
from tests.s3_server import S3Server

CAPTIONS = {"p1": "afal", "p2": "ci"}


def taught(machines: Machines) -> World:
    """The world of this machine, with two pictures and a learned language."""
    for seed in (1, 2):
        machines.here.put(f"p{seed}", seed)
    machines.here.teach("cy", CAPTIONS)
    return machines.here


def test_what_one_machine_learned_the_other_serves(machines: Machines) -> None:
    taught(machines)
    live = machines.there.started()
    assert nearest_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    assert nearest_pictures(live, 1)[0] == "p1"
    assert live.current.degraded == ()
    assert machines.there.encoder.texts_encoded == 0  # the segment was fetched, not built again
    assert machines.there.gallery.files.read(content(1)) == machines.here.gallery.files.read(content(1))


def test_a_deleted_picture_is_gone_from_the_store(machines: Machines) -> None:
    machines.here.put("p1", 1)
    machines.here.put("p2", 2)
    machines.here.put("twin", 2)
    machines.here.gallery.delete("p1")
    machines.here.gallery.delete("p2")
    sweep(machines.here.sets, kept=0)
    with pytest.raises(FileNotFoundError):
        machines.there.gallery.files.read(content(1), thumbnail=True)
    assert machines.there.gallery.files.read(content(2), thumbnail=True)
    machines.here.put("twin", 3)
    sweep(machines.here.sets, kept=0)
    assert {name.split("/")[2][:64] for name in Objects(machines.url).names("pictures")} == {content(3)}


def test_only_segments_that_a_state_names_are_in_the_store(machines: Machines) -> None:
    live = taught(machines).started()
    for seed in range(3, 9):
        machines.here.put(f"p{seed}", seed)
        live.refresh()
        machines.here.seal()
    sets = VectorSets(machines.here.gallery)
    states = [state for identity in sets.numbers() for state in sets.states(identity)]
    named = {written.id for state in states for written in state.segments}
    assert {name.split("/")[1] for name in Objects(machines.url).names("segments")} == named


def test_what_a_worker_sealed_on_one_machine_the_other_adopts(machines: Machines) -> None:
    live = machines.there.started()
    for seed in range(1, 9):
        machines.here.put(f"p{seed}", seed)
    live.refresh()
    before = scored_pictures(live, 3)
    machines.here.seal()
    machines.here.gallery.delete("p4")
    live.refresh()
    assert live.current.pictures.tail.count == 0 and live.current.degraded == ()
    assert scored_pictures(live, 3) == [hit for hit in before if hit[0] != "p4"]
    assert [path.name for path in machines.there.segments("pictures")] == [
        written.id for written in machines.here.state().segments
    ]


@pytest.mark.parametrize("where", ["here", "in the store"])
def test_a_damaged_segment_is_refused_and_made_again_on_this_machine(machines: Machines, where: str) -> None:
    world = taught(machines)
    world.started()
    world.seal()
    before = scored_pictures(world.started(), 1)
    machine = machines.here
    if where == "here":
        for folder in world.segments():
            flip(folder / "rows.safetensors")
    else:
        machine, objects = machines.there, Objects(machines.url)
        for name in objects.names("segments"):
            if not name.endswith("manifest.json"):
                objects.delete([name])
                objects.create(name, b"damaged")
    live = machine.started()
    assert scored_pictures(live, 1) == before and nearest_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    wait_until(lambda: not live.current.degraded)
    assert scored_pictures(live, 1) == before and nearest_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    assert live.verify() == [] and machine.started().current.degraded == ()


def test_a_segment_that_was_lost_here_is_fetched_from_the_store(machines: Machines) -> None:
    world = taught(machines)
    world.started()
    world.seal()
    for folder in world.segments():
        shutil.rmtree(folder)
    live = world.started()
    assert live.current.degraded == () and live.verify() == []


def test_a_segment_that_cannot_be_fetched_now_is_read_from_the_tables(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.bucket())
    world = taught(machines)
    world.started()
    world.seal()
    before = scored_pictures(world.started(), 1)
    for folder in world.segments("pictures"):
        shutil.rmtree(folder)
    own_s3.kill()
    live = world.started()
    assert scored_pictures(live, 1) == before
    assert any(StoreUnavailable.code in sentence for sentence in live.current.degraded)
    machines.close()


def test_a_segment_for_which_there_is_no_room_is_read_from_the_tables(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2, 3):
        machines.here.put(f"p{seed}", seed)
    machines.here.started()
    machines.here.seal()

    def full(*_: object) -> None:
        raise StorageFull

    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", full)
        live = machines.there.started()
        assert scored_pictures(live, 1) == machines.here.nearest(1)
        assert any(StorageFull.code in sentence for sentence in live.current.degraded)
        live.close()


def test_a_version_that_is_damaged_in_the_store_is_not_served(machines: Machines) -> None:
    taught(machines)
    objects = Objects(machines.url)
    for name in objects.names("versions"):
        if not name.endswith("manifest.json"):
            objects.delete([name])
            objects.create(name, b"damaged")
    live = machines.there.started()
    assert live.current.release.number == 1
    assert any(VersionCorrupt.code in sentence for sentence in live.current.degraded)


def test_while_the_store_is_away_searches_go_on_and_writes_are_refused(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.bucket())
    world = taught(machines)
    live = world.started()
    machines.there.put("p9", 9)
    own_s3.kill()
    live.refresh()
    assert nearest_pictures(live, 9)[0] == "p9"
    assert nearest_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    before = world.gallery.change()
    with pytest.raises(StoreUnavailable):
        world.put("p3", 3)
    assert (world.gallery.change(), world.gallery.ids()) == (before, ["p1", "p2", "p9"])
    world.gallery.delete("p1")  # is in no answer any more; the next sweep removes its files
    live.refresh()
    assert "p1" not in nearest_pictures(live, 1)
    assert world.started().current.release.number == 2  # everything that a start needs is on this machine
    machines.close()


def test_a_release_that_cannot_be_fetched_leaves_the_old_one_serving(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.bucket())
    live = machines.there.started()
    taught(machines)
    own_s3.kill()
    live.refresh()
    assert live.current.release.number == 1
    assert any(StoreUnavailable.code in sentence for sentence in live.current.degraded)
    machines.close()


def test_a_machine_that_lost_its_disk_starts_from_the_store(machines: Machines) -> None:
    world = taught(machines)
    for name in ("versions", "segments", "pictures"):
        shutil.rmtree(world.home / name)
    live = world.started()
    assert nearest_captions(live, "cy", 1, "ci") == [("ci", "p2")]
    assert machines.kinds() == {"versions", "segments", "pictures"}


def test_a_picture_whose_object_is_lost_can_be_deleted_on_another_machine(machines: Machines) -> None:
    machines.here.put("p1", 1)
    objects = Objects(machines.url)
    objects.delete([name for name in objects.names("pictures") if not name.endswith("manifest.json")])
    machines.there.gallery.delete("p1")
    sweep(machines.there.sets, kept=0)
    assert machines.there.gallery.ids() == [] and objects.names("pictures") == []
