"""A segment that is damaged in the object store is made again there too; a bad set does not keep others waiting."""

import errno
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from index import ivf, segment
from index.indexer import Indexer
from index.segment_files import inodes
from index.vectors import Identity
from store import files
from store.errors import IndexFileCorrupt
from store.objects import Objects
from tests.index.world import Clock, Machines, World, flip, put, scored_pictures, wait_until


def damage_in_store(machines: Machines) -> None:
    objects = Objects(machines.url)
    for name in objects.names("segments"):
        if not name.endswith("manifest.json"):
            objects.delete([name])
            objects.create(name, b"damaged")


def test_a_segment_that_was_damaged_in_the_store_is_whole_there_after_it_was_made_again(
    machines: Machines, tmp_path: Path
) -> None:
    for seed in (1, 2):
        machines.here.put(f"p{seed}", seed)
    machines.here.started()
    machines.here.seal()
    damage_in_store(machines)
    live = machines.there.started()
    wait_until(lambda: not live.current.degraded)
    (tmp_path / "c").mkdir()
    third = World(tmp_path / "c", f"sqlite:///{tmp_path / 'registry.db'}", machines.url)
    assert third.started().current.degraded == ()
    third.close()


def test_a_segment_that_is_damaged_here_only_is_fetched_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machines.here.started(), 1, 2)
    machines.here.seal()
    (folder,) = machines.here.segments("pictures")
    flip(folder / "rows.safetensors")

    def unexpected(*_: object) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr(segment, "write", unexpected)
    live = machines.here.started()
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
    world.started()
    world.seal()
    (before,) = world.state().segments
    real = ivf.write

    def measured_with_others(*given: Any, **options: Any) -> dict[str, Any]:
        return real(*given, **options) | {"captions": "others"}

    monkeypatch.setattr(ivf, "write", measured_with_others)
    damage_in_store(machines)
    live = machines.there.started()
    wait_until(lambda: not live.current.degraded)
    (after,) = world.state().segments
    assert after.id == before.id and after.manifest_sha256 != before.manifest_sha256
    assert live.verify() == [] and scored_pictures(live, 1) == world.nearest(1)


def test_a_damaged_left_over_in_the_store_does_not_replace_a_new_segment(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(machines.here.started(), 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "_register", lambda *_: None)
        patch.setattr(Indexer, "_tidied", lambda _: nullcontext())
        with pytest.raises(IndexFileCorrupt):
            machines.here.indexer().seal(machines.here.pictures())
    damage_in_store(machines)
    real = files.write_manifest
    monkeypatch.setattr(files, "write_manifest", lambda path, fields: real(path, fields | {"of": "there"}))
    machines.there.indexer().seal(machines.there.pictures())
    (written,) = machines.there.state().segments
    assert segment.intact(machines.there.root, written)
    live = machines.here.started()  # where the left-over is still
    wait_until(lambda: not live.current.degraded)


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The set of pictures cannot be sealed."""
    real = Indexer.seal

    def seal(indexer: Indexer, identity: Identity) -> Any:
        if identity.kind == "pictures":
            raise IndexFileCorrupt("the disk is bad")
        return real(indexer, identity)

    monkeypatch.setattr(Indexer, "seal", seal)


def test_a_set_that_cannot_be_made_again_does_not_keep_the_others_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.started(), 1, 2)
    world.seal()
    for folder in world.segments():
        flip(folder / "rows.safetensors")
    failing(monkeypatch)
    live = world.started(clock=Clock())
    wait_until(lambda: len(live.current.degraded) == 1)
    assert "pictures-" in live.current.degraded[0]


def test_a_set_that_cannot_be_sealed_does_not_keep_the_others_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.started(), 1, 2)
    failing(monkeypatch)
    monkeypatch.setattr(Indexer, "due", lambda _: [world.pictures(), world.captions("en", 0)])
    with pytest.raises(IndexFileCorrupt):
        world.seal()
    assert world.state(world.captions("en", 0)).upto_change == 2


@pytest.mark.parametrize("times", [1, 99], ids=["once", "all the time"])
def test_a_segment_that_cannot_be_opened_now_stays(world: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    live = world.started()
    put(live, 1, 2)
    world.seal()
    put(live, 3)
    (folder,) = world.segments("pictures")
    before, left, real = folder.stat().st_ino, [None] * times, ivf.read

    def read(path: Path) -> Any:
        if left and path.parent == folder:
            left.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path)

    monkeypatch.setattr(ivf, "read", read)
    world.indexer(seal_at=1).seal(world.pictures())
    assert folder.stat().st_ino == before
    assert [written.rows for written in world.state().segments] == ([2, 1] if times == 1 else [3])
    assert scored_pictures(world.started(), 1) == world.nearest(1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("owner_and_name", [(files, "sha256_file"), (os, "scandir")], ids=["hash", "list"])
def test_what_cannot_be_read_now_is_not_taken_for_damage(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, owner_and_name: tuple[Any, str]
) -> None:
    put(world.started(), 1, 2)
    world.seal()
    (folder,) = world.segments("pictures")
    before = inodes(folder)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (world.home / "verified" / f"{folder.name}.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(*owner_and_name, fail)
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            world.indexer(seal_at=1).seal(world.pictures())
    assert inodes(folder) == before
