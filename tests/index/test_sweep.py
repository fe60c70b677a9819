"""The sweeper removes what crashes left behind, and nothing that is or may still be in use."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from index import generation
from index.catalogue import Catalogue
from index.engine import Index, Matrix
from index.engine.faiss_engine import FaissEngine
from index.errors import IndexFileCorrupt
from index.generation import Identity, folder_name
from index.sweep import sweep
from index.vectors import Entry
from model import storage
from model.data_root import DataRoot
from tests.doubles import text_vector
from tests.index.world import World, content, drawn
from tests.s3_server import S3Server

HOUR = 3_600
STORED = f"pictures/ab/{'ab' * 32}.jpg"


def aged(path: Path, seconds: float) -> Path:
    """The path, with its last change moved into the past."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def identity(world: World) -> Identity:
    return Identity("pictures", world.encoder.image_fingerprint, world.encoder.dimension)


def left_over(world: World, text: str) -> Path:
    """A generation that was written but not registered, as when a writer is killed in between."""
    written = generation.write(world.root, identity(world), [Entry(text)], text_vector(0, text)[None])
    return world.generation_folder(written.id)


def temporaries(world: World, name: str) -> list[Path]:
    """A partly written generation and picture, as killed writers leave them."""
    folder, file = world.home / "generations" / name, world.home / "pictures" / "ab" / name
    folder.mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder / "vectors.safetensors", file):
        path.write_bytes(b"half")
    return [folder, file]


def start_and_sweep(world: World) -> None:
    """Start a live index and wait until its sweep is done."""
    live = world.started()
    live.close()


def test_a_start_removes_old_temporaries_and_leaves_fresh_ones(world: World) -> None:
    old, fresh = temporaries(world, ".tmp-old"), temporaries(world, ".tmp-fresh")
    for paths, hours in ((old, 1.1), (fresh, 0.9)):
        for path in paths:
            for inside in (*path.rglob("*"), path):
                aged(inside, hours * HOUR)
    start_and_sweep(world)
    assert not any(path.exists() for path in old) and all(path.exists() for path in fresh)


def test_a_start_removes_generations_that_were_never_registered_unless_they_may_still_be(world: World) -> None:
    old, fresh = left_over(world, "old"), left_over(world, "fresh")
    for path in (*old.iterdir(), old):
        aged(path, 1.1 * HOUR)
    start_and_sweep(world)
    assert not old.exists() and fresh.exists()


def test_a_registered_generation_stays_however_old(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.teach("cy")
    (folder,) = (world.home / "generations").iterdir()
    aged(folder, 1000 * HOUR)
    start_and_sweep(world)
    assert folder.exists() and world.started().current.degraded == ()


def test_the_folder_of_a_retirement_that_was_killed_goes_at_a_later_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(world.registry, world.root)
    written = generation.write(world.root, identity(world), [Entry("a")], text_vector(0, "a")[None])
    catalogue.register(identity(world), written, 0)
    folder = world.generation_folder(written.id)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "remove", killed)
        catalogue.retire(identity(world), keep=0)
    assert folder.exists()
    for path in (*folder.iterdir(), folder):
        aged(path, 1.1 * HOUR)
    start_and_sweep(world)
    assert not folder.exists()


def test_while_the_store_is_unavailable_its_files_are_kept_for_the_next_sweep(tmp_path: Path, own_s3: S3Server) -> None:
    world = World(tmp_path, store=own_s3.bucket())
    old, submission, picture = left_over(world, "old"), world.home / "expansions/exp_unknown", world.home / STORED
    for path in (submission / "dataset", picture):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    half = world.home / "uploads/.tmp-1"
    half.mkdir(parents=True)
    for path in (*old.iterdir(), old, submission / "dataset", submission, picture, half):
        aged(path, 1.1 * HOUR)
    own_s3.kill()
    assert sweep(world.root, world.registry, world.gallery) == 1
    assert not half.exists()
    assert old.exists() and submission.exists() and picture.exists()
    world.close()


def test_submissions_without_an_expansion_are_removed_and_others_stay(world: World) -> None:
    lease, _ = world.trained_version("cy")
    mine, unknown = (world.home / "expansions" / name / "dataset" for name in (lease.expansion, "exp_unknown"))
    for path in (mine, unknown):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        aged(path, 1.1 * HOUR)
        aged(path.parent, 1.1 * HOUR)
    assert sweep(world.root, world.registry, world.gallery) == 1
    assert mine.exists() and not unknown.parent.exists()


def test_working_files_of_a_finished_expansion_go_and_those_of_a_waiting_one_stay(world: World) -> None:
    world.teach("cy")
    finished = world.registry.versions.get(1).expansion
    waiting, _ = world.trained_version("br")
    kept, gone = (
        world.home / "expansions" / str(name) / "checkpoints/cy/step-5" for name in (waiting.expansion, finished)
    )
    for path in (kept, gone):
        path.mkdir(parents=True)
    sweep(world.root, world.registry, world.gallery)
    assert kept.exists() and not gone.exists()


def test_what_is_still_written_to_is_not_taken_for_left_over(world: World) -> None:
    """An upload may take longer than an hour: its folder is old, its file is not."""
    folder = world.home / "uploads/.tmp-slow"
    folder.mkdir(parents=True)
    (folder / "dataset").write_bytes(b"half")
    aged(folder, 2 * HOUR)
    assert sweep(world.root, world.registry, world.gallery) == 0
    assert folder.exists()


@pytest.mark.parametrize("suffix", [".jpg", ".thumb.jpg", ".webp"])
def test_files_of_a_picture_that_is_gone_go_when_they_are_old(world: World, suffix: str) -> None:
    world.put("a", 1)
    left = (world.home / STORED).with_suffix(suffix)
    fresh = world.home / STORED.replace("ab", "cd")
    for path in (left, fresh):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    aged(left, 1.1 * HOUR)
    aged(world.gallery.content_path(content(1)), 1000 * HOUR)
    assert sweep(world.root, world.registry, world.gallery) == 1
    assert not left.exists() and fresh.exists() and world.gallery.read(content(1))


class Interrupted(FaissEngine):
    """An engine that runs `act` once, at its first build: after a generation is written, before it is registered."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._acts = [act]

    def build(self, vectors: Matrix) -> Index:
        while self._acts:
            self._acts.pop()()
        return super().build(vectors)


def test_an_old_copy_of_what_is_written_again_is_not_taken_for_left_over(world: World) -> None:
    old = left_over(world, "same")
    for path in (*old.iterdir(), old):
        aged(path, 1.1 * HOUR)
    assert left_over(world, "same") == old
    assert sweep(world.root, world.registry, world.gallery) == 0 and old.exists()


def test_a_generation_that_is_removed_before_it_is_registered_is_written_again(world: World) -> None:
    """By a sweeper that looked at its age before it was written."""
    removed: list[int] = []
    engine = Interrupted(lambda: removed.append(sweep(world.root, world.registry, world.gallery, seconds=0)))
    live = world.started(engine=engine)
    live.put_picture("a", content(1), drawn(1))
    assert live.compact(at=0) == 1
    assert removed == [1] and live.verify() == []
    assert world.started().current.degraded == ()


def test_a_writer_whose_files_are_always_removed_gives_up_and_registers_nothing(world: World) -> None:
    class Removed(FaissEngine):
        def build(self, vectors: Matrix) -> Index:
            sweep(world.root, world.registry, world.gallery, seconds=0)
            return super().build(vectors)

    live = world.started(engine=Removed())
    live.put_picture("a", content(1), drawn(1))
    with pytest.raises(IndexFileCorrupt):
        live.compact(at=0)
    assert Catalogue(world.registry, world.root).of(identity(world)) == []


def test_a_generation_that_is_registered_while_it_is_swept_stays_here_and_in_the_store(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, store=store)
    written = generation.write(world.root, identity(world), [Entry("a")], text_vector(0, "a")[None])
    forget = world.root.forget

    def overtaken(name: str) -> None:
        forget(name)
        Catalogue(world.registry, DataRoot(world.home)).register(identity(world), written, 0)  # puts nothing there

    monkeypatch.setattr(world.root, "forget", overtaken)
    assert sweep(world.root, world.registry, world.gallery, seconds=0) == 0
    assert world.generation_folder(written.id).exists()
    assert DataRoot(tmp_path / "other", store).open(folder_name(written.id), written.manifest_sha256).exists()
    world.close()


def test_a_replaced_generation_that_is_registered_again_while_it_is_removed_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture was deleted and added again: the new generation is the same as one that was replaced."""
    catalogue = Catalogue(world.registry, world.root)
    written = generation.write(world.root, identity(world), [Entry("a")], text_vector(0, "a")[None])
    catalogue.register(identity(world), written, 0)
    monkeypatch.setattr(world.root, "forget", lambda _: catalogue.register(identity(world), written, 9))
    catalogue.retire(identity(world), keep=0)
    assert world.generation_folder(written.id).exists()
    assert [registered.upto_change for registered in catalogue.of(identity(world))] == [9]


def test_a_generation_that_another_machine_removed_from_the_store_is_put_there_again(
    tmp_path: Path, store: str
) -> None:
    world = World(tmp_path, store=store)

    def forget_all() -> None:
        for path in generations(world):
            world.root.forget(folder_name(path.name))

    live = world.started(engine=Interrupted(forget_all))
    live.put_picture("a", content(1), drawn(1))
    live.compact(at=0)
    (name,) = [folder_name(path.name) for path in generations(world)]
    assert DataRoot(tmp_path / "other", store).open(name).exists()
    world.close()


def generations(world: World) -> list[Path]:
    return sorted((world.home / "generations").iterdir())
