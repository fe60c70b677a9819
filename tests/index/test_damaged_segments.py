"""A damaged segment, view or release never serves; rows come from the tables, and are made again in the background."""

import errno
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from index import ivf, segment
from index.indexer import Indexer
from index.vectors import Identity
from store import files
from store.errors import (
    IndexFileCorrupt,
    IndexUnavailable,
    OutOfMemory,
    PictoglotError,
    StorageFull,
    StoreUnavailable,
    VersionCorrupt,
)
from store.objects import ObjectStore
from tests.index.world import (
    Clock,
    Machines,
    World,
    ask,
    fail_with,
    find_pictures,
    flip,
    list_captions,
    put,
    put_picture,
    score_pictures,
    wait_until,
)
from tests.registries import publish_release


def cut(file: Path) -> None:
    """Lose the second half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def seal_twelve(world: World) -> Path:
    """Seal twelve pictures, with one deleted and one replaced since; return the folder of the larger segment."""
    live = put(world.serve(), *range(8))
    world.seal()
    put(live, *range(8, 12))
    live.delete_picture("p1")
    put(live, 22)
    world.seal()
    live.delete_picture("p9")
    assert [written.rows for written in world.state().segments] == [8, 5]
    return world.home / "segments" / world.state().segments[0].id


Damage = Callable[[Path], object]
DAMAGE: dict[str, Damage] = {
    "rows flipped": lambda folder: flip(folder / "rows.safetensors"),
    "index cut": lambda folder: cut(folder / "index.faiss"),
    "manifest missing": lambda folder: (folder / "manifest.json").unlink(),
    "folder missing": files.remove,
}


@pytest.mark.row("I1", "I2")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_segment_serves_nothing_and_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    folder = seal_twelve(world)
    before = ask(world.serve())
    assert before[0] == [world.rank(seed) for seed in range(8)]
    damage(folder)
    encoded = world.encoder.texts_encoded, world.encoder.pictures_encoded

    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", fail_with(StorageFull()))  # so that it cannot be made again yet
        live = world.serve(clock=clock)
        assert ask(live) == before
        (problem,) = live.current.degraded
        assert folder.name in problem and "index_file_corrupt" in problem
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    assert ask(live) == before and live.verify() == []
    assert (world.encoder.texts_encoded, world.encoder.pictures_encoded) == encoded
    again = world.serve()
    assert again.current.degraded == () and ask(again) == before


def test_the_only_segment_of_a_set_is_made_again_with_the_same_name(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing new has to be registered then, and yet what was read from the tables is to go from memory."""
    live = put(world.serve(), *range(8))
    world.seal()
    before, state = ask(live), world.state()
    (folder,) = world.list_segments("pictures")
    flip(folder / "rows.safetensors")
    live = world.serve()
    wait_until(lambda: not live.current.degraded)
    assert ask(live) == before and live.verify() == []
    assert f"segment {folder.name} is unusable (index_file_corrupt)" in caplog.text
    assert live.current.picture_set.tail.count == 0 and world.state().segments == state.segments
    assert world.serve().current.degraded == ()


def test_a_segment_under_the_name_of_another_of_its_set_is_foreign_too(world: World) -> None:
    """What is written there again has the same name, and must not be taken for there already."""
    live = world.serve()
    for seeds in (range(8), range(8, 12)):
        put(live, *seeds)
        world.seal()
    before, (folder, other) = ask(live), (world.home / "segments" / each.id for each in world.state().segments)
    for file in folder.iterdir():
        file.write_bytes((other / file.name).read_bytes())
    live = world.serve()
    assert ask(live) == before
    wait_until(lambda: not live.current.degraded)
    assert ask(live) == ask(world.serve()) == before and live.verify() == []


def test_what_changes_while_a_segment_is_damaged_is_in_the_answers(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = seal_twelve(world)
    flip(folder / "rows.safetensors")

    clock = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(files, "require_free", fail_with(StorageFull()))
        live = world.serve(clock=clock)
        wait_until(lambda: "making damaged segments again failed" in caplog.text)
        for _ in range(10):
            live.refresh()
        assert caplog.text.count("making damaged segments again failed") == 1, "not tried twice a second"
    live.delete_picture("p3")
    put(live, 23)
    world.put("p4", 44)  # other content, put by another process
    assert live.current.degraded != ()
    live.refresh()
    assert [score_pictures(live, seed) for seed in (3, 4, 23)] == [world.rank(seed) for seed in (3, 4, 23)]
    clock.now += 61
    live.refresh()
    wait_until(lambda: not live.current.degraded)
    for each in (live, world.serve()):
        assert [score_pictures(each, seed) for seed in (3, 4, 23)] == [world.rank(seed) for seed in (3, 4, 23)]
        assert list_captions(each, "p4") == {"en": ["picture 4", "drawing 4"]}


def damage_in_store(machines: Machines) -> None:
    objects = ObjectStore(machines.url)
    for name in objects.list_keys("segments"):
        if not name.endswith("manifest.json"):
            objects.delete([name])
            objects.create(name, b"damaged")


def test_a_segment_that_was_damaged_in_the_store_is_whole_there_after_it_was_made_again(
    machines: Machines, tmp_path: Path
) -> None:
    for seed in (1, 2):
        machines.here.put(f"p{seed}", seed)
    machines.here.serve()
    machines.here.seal()
    damage_in_store(machines)
    live = machines.there.serve()
    wait_until(lambda: not live.current.degraded)
    (tmp_path / "c").mkdir()
    third = World(tmp_path / "c", f"sqlite:///{tmp_path / 'registry.db'}", machines.url)
    assert third.serve().current.degraded == ()
    third.close()


def test_a_segment_that_is_damaged_here_only_is_fetched_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machines.here.serve(), 1, 2)
    machines.here.seal()
    (folder,) = machines.here.list_segments("pictures")
    flip(folder / "rows.safetensors")

    monkeypatch.setattr(segment, "write", fail_with(AssertionError("it was made again")))
    live = machines.here.serve()
    assert live.current.degraded != ()
    wait_until(lambda: not live.current.degraded)
    assert live.verify() == []


def test_what_is_made_again_with_another_manifest_does_not_give_way_to_the_damaged_copy(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id depends on the rows, the index also on the captions with which recall was measured."""
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 8)
    world = machines.here
    for seed in range(12):
        world.put(f"p{seed:02d}", seed)
    world.serve()
    world.seal()
    (before,) = world.state().segments
    real = ivf.write

    def write_with_others(*given: Any, **options: Any) -> dict[str, Any]:
        return real(*given, **options) | {"captions": "others"}

    monkeypatch.setattr(ivf, "write", write_with_others)
    damage_in_store(machines)
    live = machines.there.serve()
    wait_until(lambda: not live.current.degraded)
    (after,) = world.state().segments
    assert after.id == before.id and after.manifest_sha256 != before.manifest_sha256
    assert live.verify() == [] and score_pictures(live, 1) == world.rank(1)


def test_a_damaged_left_over_in_the_store_does_not_replace_a_new_segment(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machines.here.serve(), 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "_register", lambda *_: None)
        patch.setattr(Indexer, "_remove_unused_at_end", lambda _: nullcontext())
        with pytest.raises(IndexFileCorrupt):
            machines.here.make_indexer().seal(machines.here.pictures())
    damage_in_store(machines)
    real = files.write_manifest
    monkeypatch.setattr(files, "write_manifest", lambda path, fields: real(path, fields | {"of": "there"}))
    machines.there.make_indexer().seal(machines.there.pictures())
    (written,) = machines.there.state().segments
    assert segment.is_intact(machines.there.root, written)
    live = machines.here.serve()  # where the left-over is still
    wait_until(lambda: not live.current.degraded)


def fail_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sealing of the set of pictures fail."""
    real = Indexer.seal

    def seal(indexer: Indexer, identity: Identity) -> Any:
        if identity.kind == "pictures":
            raise IndexFileCorrupt("the disk is bad")
        return real(indexer, identity)

    monkeypatch.setattr(Indexer, "seal", seal)


def test_a_set_that_cannot_be_sealed_does_not_keep_the_others_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.serve(), 1, 2)
    fail_sealing(monkeypatch)
    monkeypatch.setattr(Indexer, "list_due", lambda _: [world.pictures(), world.captions("en", 0)])
    with pytest.raises(IndexFileCorrupt):
        world.seal()
    assert world.state(world.captions("en", 0)).upto_change == 2


@pytest.mark.parametrize("times", [1, 99], ids=["once", "all the time"])
def test_a_segment_that_cannot_be_opened_now_stays(world: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    live = put(world.serve(), 1, 2)
    world.seal()
    put(live, 3)
    (folder,) = world.list_segments("pictures")
    before, left, real = folder.stat().st_ino, [None] * times, ivf.read

    def read(path: Path) -> Any:
        if left and path.parent == folder:
            left.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path)

    monkeypatch.setattr(ivf, "read", read)
    world.make_indexer(seal_at=1).seal(world.pictures())
    assert folder.stat().st_ino == before
    assert [written.rows for written in world.state().segments] == ([2, 1] if times == 1 else [3])
    assert score_pictures(world.serve(), 1) == world.rank(1)


@pytest.mark.row("R6")
def test_a_damaged_version_is_not_swapped_in_until_it_is_repaired_and_the_old_release_goes_on(world: World) -> None:
    clock = Clock()
    live = world.serve(clock=clock)
    put_picture(live, "a", 1)
    old = live.current.release
    new = world.teach("cy", {"a": "ci"})
    file = world.get_folder(1) / "rows.safetensors"
    good = file.read_bytes()
    flip(file)
    with pytest.raises(VersionCorrupt):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "version_corrupt" in live.current.degraded[0]
    assert world.registry.releases.get_serving() == new  # a live index does not move the alias
    put_picture(live, "b", 2)
    assert find_pictures(live, 2)[0] == "b"
    file.write_bytes(good)
    live.refresh()
    assert live.current.release == old, "not verified again and again"
    told = [f"Release {new.number} cannot be opened (version_corrupt).", f"Release {old.number} is still served."]
    assert live.verify() == told
    clock.now += 61
    assert live.refresh() and live.current.release == new and live.current.degraded == ()


@pytest.mark.row("I5")
def test_a_start_falls_back_to_the_newest_release_that_can_be_verified(world: World) -> None:
    world.put("a", 1)
    good = world.teach("cy", {"a": "ci"})
    world.teach("de", {"a": "Hund"})
    world.teach("fr", {"a": "chien"})
    flip(world.get_folder(2) / "rows.safetensors")  # de, whose rows are in the shared table of fr
    live = world.serve()
    assert live.current.release == good and set(live.current.views) == {"en", "cy"}
    assert len(live.current.degraded) == 3 and f"Release {good.number} serves" in live.current.degraded[2]


@pytest.mark.row("I6")
@pytest.mark.parametrize("error", [StoreUnavailable(), StorageFull(), VersionCorrupt("x")])
def test_a_start_without_a_release_that_can_be_opened_serves_as_soon_as_there_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch, error: PictoglotError
) -> None:
    world.put("a", 1)
    clock = Clock()
    new = world.teach("cy", {"a": "ci"})
    restored = publish_release(world.registry, expected=2, shared=1, languages=new.languages)
    live = world.make_live(clock=clock)
    with monkeypatch.context() as patch:
        fail_reads(world, patch, error)
        patch.setattr(world.registry.releases, "list", lambda **_: [])  # no release before this one
        assert not live.start()
        with pytest.raises(IndexUnavailable):
            _ = live.current
    clock.now += 61
    assert live.refresh() and live.current.release == restored


def fail_reads(world: World, patch: pytest.MonkeyPatch, error: PictoglotError) -> None:
    """Let the folder of every version be unavailable."""

    patch.setattr(world.encoder, "open", fail_with(error))


@pytest.mark.row("I12")
def test_no_room_for_a_second_snapshot_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.serve()
    old = live.current.release
    new = world.teach("cy")

    monkeypatch.setattr(world.encoder, "open", fail_with(MemoryError()))
    with pytest.raises(OutOfMemory):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "out_of_memory" in live.current.degraded[0]


def test_verify_names_what_differs(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    live = world.serve()
    assert live.verify() == []
    flip(world.get_folder(1) / "rows.safetensors")
    (folder,) = world.list_segments("captions")
    flip(folder / "index.faiss")
    assert [problem.split()[0] for problem in live.verify()] == ["Version", "Segment"]
