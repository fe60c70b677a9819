"""Two machines with a data root each, one registry and one object store: what one makes, the other serves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.catalogue import Catalogue
from index.generation import Identity
from model.errors import StoreUnavailable, VersionCorrupt
from model.objects import Objects
from tests.index.world import World, captions, content, found
from tests.s3_server import S3Server

CAPTIONS = {"p1": "afal", "p2": "ci"}


class Machines:
    """A world here and a world there."""

    def __init__(self, folder: Path, url: str) -> None:
        database = f"sqlite:///{folder / 'registry.db'}"
        self.url = url
        self.here, self.there = (World(self._home(folder / name), database, url) for name in ("a", "b"))

    def _home(self, home: Path) -> Path:
        home.mkdir()
        return home

    def kinds(self) -> set[str]:
        """The folders that have something in the store."""
        return {name.split("/")[0] for name in Objects(self.url).names("")}

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def machines(tmp_path: Path, store: str) -> Iterator[Machines]:
    machines = Machines(tmp_path, store)
    yield machines
    machines.close()


def taught(machines: Machines) -> World:
    """The world here with two pictures and a language."""
    for seed in (1, 2):
        machines.here.put(f"p{seed}", seed)
    machines.here.teach("cy", CAPTIONS)
    return machines.here


def test_what_one_machine_learned_the_other_serves(machines: Machines) -> None:
    taught(machines)
    holder = machines.there.started()
    assert captions(holder, "cy", 1, "afal") == [("afal", "p1")]
    assert found(holder, 1)[0] == "p1"
    assert holder.current.degraded == ()
    assert machines.there.encoder.texts_encoded == 0  # the generation came, and was not made again
    assert machines.there.gallery.read(content(1)) == machines.here.gallery.read(content(1))


def test_a_deleted_picture_is_gone_from_the_store(machines: Machines) -> None:
    machines.here.put("p1", 1)
    machines.here.put("p2", 2)
    machines.here.put("twin", 2)
    machines.here.gallery.delete("p1")
    machines.here.gallery.delete("p2")
    with pytest.raises(FileNotFoundError):
        machines.there.gallery.read(content(1), thumbnail=True)
    assert machines.there.gallery.read(content(2), thumbnail=True)
    machines.here.put("twin", 3)
    assert {name.split("/")[2][:64] for name in Objects(machines.url).names("pictures")} == {content(3)}


def test_a_retired_generation_is_gone_from_the_store(machines: Machines) -> None:
    holder = taught(machines).started()
    for seed in range(3, 7):
        machines.here.put(f"p{seed}", seed)
        holder.refresh()
        holder.compact(at=0)
    fingerprint, dimension = machines.here.encoder.image_fingerprint, machines.here.encoder.dimension
    kept = Identity("pictures", fingerprint, dimension)
    names = {name.split("/")[1] for name in Objects(machines.url).names("generations")}
    registered = {one.id for one in Catalogue(machines.here.registry, machines.here.root).of(kept)}
    assert {name for name in names if name.startswith("pictures")} == registered


def test_a_version_that_is_damaged_in_the_store_is_not_served(machines: Machines) -> None:
    taught(machines)
    objects = Objects(machines.url)
    for name in objects.names("versions"):
        if not name.endswith("manifest.json"):
            objects.delete([name])
            objects.create(name, b"damaged")
    holder = machines.there.started()
    assert holder.current.release.number == 1
    assert any(VersionCorrupt.code in sentence for sentence in holder.current.degraded)


def test_while_the_store_is_away_searches_go_on_and_writes_are_refused(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.bucket())
    world = taught(machines)
    holder = world.started()
    machines.there.put("p9", 9)
    own_s3.kill()
    holder.refresh()
    assert found(holder, 9)[0] == "p9"
    assert captions(holder, "cy", 1, "afal") == [("afal", "p1")]
    before = world.gallery.change()
    with pytest.raises(StoreUnavailable):
        world.put("p3", 3)
    assert (world.gallery.change(), world.gallery.ids()) == (before, ["p1", "p2", "p9"])
    world.gallery.delete("p1")  # is gone from every answer; its files are for the next sweep
    holder.refresh()
    assert "p1" not in found(holder, 1)
    assert world.started().current.release.number == 2  # all that a start needs is here
    machines.close()


def test_a_release_that_cannot_be_fetched_leaves_the_old_one_serving(own_s3: S3Server, tmp_path: Path) -> None:
    machines = Machines(tmp_path, own_s3.bucket())
    holder = machines.there.started()
    taught(machines)
    own_s3.kill()
    holder.refresh()
    assert holder.current.release.number == 1
    assert any(StoreUnavailable.code in sentence for sentence in holder.current.degraded)
    machines.close()


def test_a_machine_that_lost_its_disk_starts_from_the_store(machines: Machines) -> None:
    world = taught(machines)
    for name in ("versions", "generations", "pictures"):
        shutil.rmtree(world.home / name)
    holder = world.started()
    assert captions(holder, "cy", 1, "ci") == [("ci", "p2")]
    assert machines.kinds() == {"versions", "generations", "pictures"}
