"""Two machines, each with a data root, one registry and one object store: what one writes, the other serves."""

import shutil
from pathlib import Path

import pytest

from index.janitor import sweep
from index.segment import Segment
from index.sets import KEPT
from store import files
from store.errors import StorageFull, StoreUnavailable
from store.objects import ObjectStore
from tests.index.world import (
    Machines,
    World,
    digest,
    fail_with,
    find_captions,
    find_pictures,
    put,
    score_pictures,
)
from tests.s3_server import S3Server

CAPTIONS = {"p1": "afal", "p2": "ci"}


def teach_welsh(machines: Machines) -> World:
    """Put two pictures and teach a language on this machine."""
    for seed in (1, 2):
        machines.here.put(f"p{seed}", seed)
    machines.here.teach("cy", CAPTIONS)
    return machines.here


def test_what_one_machine_learned_the_other_serves(machines: Machines) -> None:
    teach_welsh(machines)
    live = machines.there.serve()
    assert find_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    assert find_pictures(live, 1)[0] == "p1"
    assert live.current.degraded == ()
    assert machines.there.encoder.texts_encoded == 0  # the segment was fetched, not built again
    assert machines.there.gallery.files.read(digest(1)) == machines.here.gallery.files.read(digest(1))


def test_a_deleted_picture_is_gone_from_the_store(machines: Machines) -> None:
    machines.here.put("p1", 1)
    machines.here.put("p2", 2)
    machines.here.put("twin", 2)
    machines.here.gallery.delete("p1")
    machines.here.gallery.delete("p2")
    sweep(machines.here.sets, kept_seconds=0)
    with pytest.raises(FileNotFoundError):
        machines.there.gallery.files.read(digest(1), thumbnail=True)
    assert machines.there.gallery.files.read(digest(2), thumbnail=True)
    machines.here.put("twin", 3)
    sweep(machines.here.sets, kept_seconds=0)
    assert {name.split("/")[2][:64] for name in ObjectStore(machines.url).list_keys("pictures")} == {digest(3)}


def test_a_segment_that_cannot_be_fetched_now_is_read_from_the_tables(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.create_bucket())
    world = teach_welsh(machines)
    world.serve()
    world.seal()
    before = score_pictures(world.serve(), 1)
    for folder in world.list_segments("pictures"):
        shutil.rmtree(folder)
    own_s3.kill()
    live = world.serve()
    assert score_pictures(live, 1) == before
    assert any(StoreUnavailable.code in sentence for sentence in live.current.degraded)
    machines.close()


def test_a_segment_for_which_there_is_no_room_is_read_from_the_tables(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2, 3):
        machines.here.put(f"p{seed}", seed)
    machines.here.serve()
    machines.here.seal()

    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", fail_with(StorageFull()))
        live = machines.there.serve()
        assert score_pictures(live, 1) == machines.here.rank(1)
        assert any(StorageFull.code in sentence for sentence in live.current.degraded)
        live.close()


def test_while_the_store_is_away_searches_go_on_and_writes_are_refused(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.create_bucket())
    world = teach_welsh(machines)
    live = world.serve()
    machines.there.put("p9", 9)
    own_s3.kill()
    live.refresh()
    assert find_pictures(live, 9)[0] == "p9"
    assert find_captions(live, "cy", 1, "afal") == [("afal", "p1")]
    before = world.gallery.read_last_change()
    with pytest.raises(StoreUnavailable):
        world.put("p3", 3)
    assert (world.gallery.read_last_change(), world.gallery.list_ids()) == (before, ["p1", "p2", "p9"])
    world.gallery.delete("p1")  # is in no answer any more; the next sweep removes its files
    live.refresh()
    assert "p1" not in find_pictures(live, 1)
    assert world.serve().current.release.number == 2  # everything that a start needs is on this machine
    machines.close()


def test_a_release_that_cannot_be_fetched_leaves_the_old_one_serving(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.create_bucket())
    live = machines.there.serve()
    teach_welsh(machines)
    own_s3.kill()
    live.refresh()
    assert live.current.release.number == 1
    assert any(StoreUnavailable.code in sentence for sentence in live.current.degraded)
    machines.close()


def test_a_picture_whose_object_is_lost_can_be_deleted_on_another_machine(machines: Machines) -> None:
    machines.here.put("p1", 1)
    objects = ObjectStore(machines.url)
    objects.delete([name for name in objects.list_keys("pictures") if not name.endswith("manifest.json")])
    machines.there.gallery.delete("p1")
    sweep(machines.there.sets, kept_seconds=0)
    assert machines.there.gallery.list_ids() == [] and objects.list_keys("pictures") == []


def list_named(world: World) -> set[str]:
    return {written.id for state in world.sets.list_states(world.pictures()) for written in state.segments}


def test_a_machine_that_only_follows_keeps_no_more_segments_than_states_name(machines: Machines) -> None:
    live = machines.there.serve()
    for seed in range(7):
        machines.here.put(f"p{seed}", seed)
        live.refresh()
        machines.here.seal()
        live.refresh()
        assert {path.name for path in machines.there.list_segments("pictures")} <= list_named(machines.here)
    assert score_pictures(live, 3) == machines.here.rank(3) and live.verify() == []
    assert machines.there.serve().current.degraded == ()


@pytest.mark.parametrize("where", ["a folder of one machine", "a shared folder"])
def test_segments_in_a_shared_folder_stay_for_those_who_have_mapped_them(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    """NFS takes a file that was deleted elsewhere away from under whoever reads it: that is the end of the process."""
    shared = where == "a shared folder"
    world = World(tmp_path, request.getfixturevalue("postgresql_url") if shared else None)
    live = world.serve()
    for seed in range(4):
        put(live, seed)
        world.seal()
    states = world.sets.list_states(world.pictures())
    assert {path.name for path in world.list_segments("pictures")} == list_named(world) and (
        len(states) > KEPT
    ) == shared
    world.sets.retire_states(world.pictures(), seconds=0)
    assert {path.name for path in world.list_segments("pictures")} == list_named(world)
    assert len(world.sets.list_states(world.pictures())) == KEPT
    world.close()


def test_a_set_of_an_earlier_release_whose_segments_were_deleted_is_opened_again(world: World) -> None:
    pictures = [f"p{seed}" for seed in range(6)]
    for seed, picture in enumerate(pictures):
        world.put(picture, seed)
    world.teach("cy", dict.fromkeys(pictures, "ci"))
    live = world.serve()
    world.registry.releases.roll_back("cy", actor="test", reason="")
    live.refresh()
    for picture in pictures[:4]:
        world.gallery.delete(picture)
        world.make_indexer(seal_at=1).seal(world.captions("cy", 1))
    for part in live.open(world.registry.releases.get(2)).captions["cy"].parts:
        assert isinstance(part, Segment) and (world.home / "segments" / part.record.id).exists()
    world.registry.releases.restore(2, expected=3, actor="test", reason="")
    live.refresh()
    assert find_captions(live, "cy", 1, "ci", 99) == [("ci", picture) for picture in sorted(pictures[4:])]
