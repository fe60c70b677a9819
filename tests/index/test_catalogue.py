"""The sweep at the start takes what crashes left behind, and nothing that is in use or may still be."""

import os
import time
from pathlib import Path

import pytest

from index import generation
from index.catalogue import Catalogue
from index.generation import Identity
from index.vectors import Entry
from model import remote, storage
from model.errors import StoreUnavailable
from tests.doubles import text_vector
from tests.index.world import World
from tests.s3_server import S3Server

HOUR = 3_600


def aged(path: Path, seconds: float) -> Path:
    """The path, with its last change moved into the past."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def identity(world: World) -> Identity:
    return Identity("pictures", world.encoder.image_fingerprint, world.encoder.dimension)


def left_over(world: World, text: str) -> Path:
    """A generation that was written and never registered, as by a writer that was killed in between."""
    written = generation.write(world.root, identity(world), [Entry(text)], text_vector(0, text)[None])
    return world.generation_folder(written.id)


def temporaries(world: World, name: str) -> list[Path]:
    """A staged generation and a picture half-written, as killed writers leave them."""
    folder, file = world.root / "generations" / name, world.root / "pictures" / "ab" / name
    folder.mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder / "vectors.safetensors", file):
        path.write_bytes(b"half")
    return [folder, file]


def swept(world: World) -> None:
    """A start, until its sweep is done."""
    holder = world.started()
    holder.close()


def test_a_start_removes_old_temporaries_and_leaves_fresh_ones(world: World) -> None:
    old, fresh = temporaries(world, ".tmp-old"), temporaries(world, ".tmp-fresh")
    for path in old:
        aged(path, 1.1 * HOUR)
    for path in fresh:
        aged(path, 0.9 * HOUR)
    swept(world)
    assert not any(path.exists() for path in old) and all(path.exists() for path in fresh)


def test_a_start_removes_generations_that_were_never_registered_unless_they_may_still_be(world: World) -> None:
    old, fresh = left_over(world, "old"), left_over(world, "fresh")
    aged(old, 1.1 * HOUR)
    swept(world)
    assert not old.exists() and fresh.exists()


def test_a_registered_generation_stays_however_old(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.teach("cy")
    (folder,) = (world.root / "generations").iterdir()
    aged(folder, 1000 * HOUR)
    swept(world)
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
    aged(folder, 1.1 * HOUR)
    swept(world)
    assert not folder.exists()


def test_while_the_store_is_away_nothing_loses_its_trace(world: World, own_s3: S3Server) -> None:
    remote.mount(world.root, own_s3.bucket())
    old = left_over(world, "old")
    aged(old, 1.1 * HOUR)
    own_s3.kill()
    with pytest.raises(StoreUnavailable):
        Catalogue(world.registry, world.root).sweep()
    assert old.exists()
