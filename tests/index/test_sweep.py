"""The sweeper removes what crashes left behind, and nothing that is or may still be in use."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from index import segment
from index.gallery import Gallery
from index.janitor import sweep
from index.set_states import PartRecord, SealedState
from index.sets import VectorSets
from index.vectors import Entry, VectorRows
from store import files
from store.data_root import DataRoot
from store.registry import open_registry
from tests.doubles import make_text_vector
from tests.index.world import World, age, digest, fail_with, interrupt, put
from tests.s3_server import S3Server

STORED = f"pictures/ab/{'ab' * 32}.jpg"


def write(world: World, text: str) -> PartRecord:
    return segment.write(
        world.root, world.pictures(), VectorRows(np.array([1]), [Entry(text)], make_text_vector(0, text)[None])
    )


def write_left_over(world: World, text: str) -> Path:
    """Write a segment that is not registered, as when a writer is killed in between."""
    return world.home / "segments" / write(world, text).id


def register(world: World, upto_change: int, *segments: PartRecord) -> SealedState:
    """Register a state with these segments, on top of whatever there is."""
    sets = VectorSets(Gallery(world.registry, DataRoot(world.home)))  # puts nothing into a store
    registered = sets.register(world.pictures(), world.state(), SealedState(0, upto_change, segments))
    assert registered is not None
    return registered


def write_temporaries(world: World, name: str) -> list[Path]:
    """Write a part of a segment and a picture, as killed writers leave them."""
    folder, file = world.home / "segments" / name, world.home / "pictures" / "ab" / name
    folder.mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder / "rows.safetensors", file):
        path.write_bytes(b"half")
    return [folder, file]


def start_and_sweep(world: World) -> None:
    """Start a live index and wait until its sweep is done."""
    live = world.serve()
    live.close()


def test_a_start_removes_old_temporaries_and_leaves_fresh_ones(world: World) -> None:
    old, fresh = write_temporaries(world, f".tmp-{1:032x}"), write_temporaries(world, f".tmp-{2:032x}")
    for paths, hours in ((old, 1.1), (fresh, 0.9)):
        for path in paths:
            for inside in (*path.rglob("*"), path):
                age(inside, hours)
    start_and_sweep(world)
    assert not any(path.exists() for path in old) and all(path.exists() for path in fresh)


def test_a_start_removes_segments_that_were_never_registered_unless_they_may_still_be(world: World) -> None:
    old, fresh = write_left_over(world, "old"), write_left_over(world, "fresh")
    for path in (*old.iterdir(), old):
        age(path, 1.1)
    start_and_sweep(world)
    assert not old.exists() and fresh.exists()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_segment_that_a_state_names_stays_however_old(world: World) -> None:
    live = world.serve()
    for seed in range(5):
        put(live, seed)
        world.seal()
    folders = world.list_segments()
    world.age(1000)
    start_and_sweep(world)
    assert world.list_segments() == folders and world.serve().current.degraded == ()


@pytest.mark.parametrize("before", ["set_aside", "remove"])
def test_the_folder_of_a_retirement_that_was_killed_goes_at_a_later_start(
    world: World, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    written = write(world, "a")
    register(world, 0, written)
    for _ in range(2):
        register(world, 0)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, before, fail_with(KeyboardInterrupt()))
        VectorSets(world.gallery).retire_states(world.pictures())
    (folder,) = world.list_segments()
    world.age()
    start_and_sweep(world)
    assert not folder.exists()


def test_while_the_store_is_unavailable_its_files_are_kept_for_the_next_sweep(tmp_path: Path, own_s3: S3Server) -> None:
    world = World(tmp_path, store=own_s3.create_bucket())
    old, submission, picture = (
        write_left_over(world, "old"),
        world.home / "expansions/exp_00000000000000000000",
        world.home / STORED,
    )
    for path in (submission / "dataset", picture):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    half = world.home / f"uploads/.tmp-{1:032x}"
    half.mkdir(parents=True)
    for path in (*old.iterdir(), old, submission / "dataset", submission, picture, half):
        age(path, 1.1)
    own_s3.kill()
    assert sweep(world.sets) == 1
    assert not half.exists()
    assert old.exists() and submission.exists() and picture.exists()
    world.close()


def test_working_files_of_a_finished_expansion_go_and_those_of_a_waiting_one_stay(world: World) -> None:
    world.teach("cy")
    finished = world.registry.versions.get(1).expansion
    waiting, _ = world.add_version("br")
    kept, gone = (
        world.home / "expansions" / str(name) / "checkpoints/cy/step-5" for name in (waiting.expansion, finished)
    )
    for path in (kept, gone):
        path.mkdir(parents=True)
    sweep(world.sets)
    assert kept.exists() and not gone.exists()


def test_what_is_still_written_to_is_not_taken_for_left_over(world: World) -> None:
    """An upload may take longer than an hour: its folder is old, its file is not."""
    folder = world.home / f"uploads/.tmp-{1:032x}"
    folder.mkdir(parents=True)
    (folder / "dataset").write_bytes(b"half")
    age(folder, 2)
    assert sweep(world.sets) == 0
    assert folder.exists()


@pytest.mark.parametrize("suffix", [".jpg", ".thumb.jpg", ".original"])
def test_files_of_a_picture_that_is_gone_go_when_they_are_old(world: World, suffix: str) -> None:
    world.put("a", 1)
    left = (world.home / STORED).with_suffix(suffix)
    fresh = world.home / STORED.replace("ab", "cd")
    for path in (left, fresh):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    age(left, 1.1)
    age(world.gallery.files.locate(digest(1)), 1000)
    assert sweep(world.sets) == 1
    assert not left.exists() and fresh.exists() and world.gallery.files.read(digest(1))


def test_an_old_copy_of_what_is_written_again_is_not_taken_for_left_over(world: World) -> None:
    old = write_left_over(world, "same")
    for path in (*old.iterdir(), old):
        age(path, 1.1)
    assert write_left_over(world, "same") == old
    assert sweep(world.sets) == 0 and old.exists()


def test_a_segment_that_is_registered_while_it_is_swept_stays_here_and_in_the_store(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, store=store)
    written = write(world, "a")
    remove = world.root.remove_from_store

    def overtake(name: str) -> None:
        remove(name)
        register(world, 0, written)

    monkeypatch.setattr(world.root, "remove_from_store", overtake)
    assert sweep(world.sets, seconds=0) == 0
    other = DataRoot(tmp_path / "other", store)
    assert segment.read(other, written, world.pictures()).count == 1
    assert segment.is_intact(world.root, written)
    world.close()


def test_a_replaced_segment_that_is_registered_again_while_it_is_removed_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture was deleted and added again: the new segment is the same as one that was replaced."""
    written = write(world, "a")
    register(world, 0, written)
    for change in (1, 2):
        register(world, change)
    monkeypatch.setattr(world.root, "remove_from_store", lambda _: register(world, 9, written))
    VectorSets(world.gallery).retire_states(world.pictures())
    assert segment.is_intact(world.root, written) and world.state().upto_change == 9


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_others_write_while_the_files_of_a_segment_are_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million pictures are gigabytes."""
    folder, written = write_left_over(world, "a"), list[bool]()
    other = open_registry(world.registry.engine.url.render_as_string(hide_password=False))

    def remove_tree(path: Path, **_: object) -> None:
        with other.begin():
            written.append(path.exists() and not folder.exists())

    monkeypatch.setattr(shutil, "rmtree", remove_tree)
    assert VectorSets(world.gallery).remove_unreferenced([folder.name]) == 1
    assert written and written[0]
    other.close()


def test_a_segment_that_another_machine_removed_from_the_store_is_put_there_again(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, store=store)
    put(world.serve(), 1)

    def remove_all() -> None:
        for path in world.list_segments():
            world.root.remove_from_store(f"segments/{path.name}")

    interrupt(monkeypatch, VectorSets, "register", remove_all)
    (written,) = world.make_indexer().seal(world.pictures()).segments
    assert segment.read(DataRoot(tmp_path / "other", store), written, world.pictures()).count == 1
    world.close()


@pytest.mark.parametrize("other", [False, True], ids=["empty", "other"])
def test_a_registry_that_does_not_know_the_files_sweeps_none_of_them(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, other: bool
) -> None:
    world.put_many(20, cy="llun")
    world.teach("cy")
    world.seal()
    world.age(1000)
    before = {path for path in world.home.rglob("*") if not path.name.startswith("registry.db")}
    stranger = World(tmp_path / "other")
    for seed in range(19, 22 if other else 0):  # one of its pictures is here, too
        stranger.put(f"p{seed}", seed)
    sweep(VectorSets(Gallery(stranger.registry, world.root)), kept_seconds=0)
    assert before <= {*world.home.rglob("*")}
    assert "19 of 20 in pictures/" in caplog.text if other else "20 of 20 in pictures/" in caplog.text
    assert "PICTOGLOT_DATABASE_URL" in caplog.text
    stranger.close()


def test_what_somebody_else_keeps_in_the_data_root_stays(world: World) -> None:
    world.put("a", 1)
    own = world.home / f"pictures/ab/.tmp-{1:032x}"
    names = ("versions/release-1.0/thesis.tex", "pictures/20/2019-summer.jpg", "pictures/.tmp-x", "segments/a/b")
    foreign = [world.home / name for name in (*names, "expansions/notes/a", f"thesis/.tmp-{2:032x}")]
    for path in (own, *foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        age(path, 3)
        age(path.parent, 3)
    assert sweep(world.sets) == 1
    assert not own.exists() and all(path.exists() for path in foreign)
