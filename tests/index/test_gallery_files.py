"""Files of pictures are written before their rows, here and in the store, whatever another process does meanwhile."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import pytest
from sqlalchemy.orm import Session

from index.gallery import Gallery
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, PictureDamaged, StorageFull, StoreUnavailable
from store.objects import ObjectStore
from store.registry import Registry, open_registry
from tests.index.world import VerifyingEncoder, World, digest, flip, make_picture
from tests.patience import insist


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Notes the calls of some functions; each would be refused after 1.5 s in a transaction of the world's registry."""
    others = list[Registry]()

    def watch(world: World, owner: object, *names: str) -> list[str]:
        other, calls = open_registry(f"sqlite:///{world.home / 'registry.db'}"), list[str]()
        others.append(other)

        def check(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any) -> Any:
                with other.begin():
                    calls.append(name)
                return real(*given)

            return call

        for name in names:
            monkeypatch.setattr(owner, name, check(name, getattr(owner, name)))
        return calls

    yield watch
    for other in others:
        other.close()


def test_no_writer_waits_for_the_files_of_a_picture(world: World, watched: Callable[..., list[str]]) -> None:
    """They are written and synced, or read where they are here already, before the transaction."""
    calls = watched(world, files, "write_bytes", "hash_file", "read")
    world.put("a", 1)
    assert calls.count("write_bytes") == 2
    put_sent(world.gallery, "a")
    calls.clear()
    put_sent(world.gallery, "b")
    assert {*calls} == {"hash_file", "read"}


def test_no_writer_waits_for_the_store(shared: World, watched: Callable[..., list[str]]) -> None:
    calls = watched(shared, ObjectStore, "put", "create", "delete", "list_keys", "get")
    shared.put("a", 1)
    shared.put("a", 2)
    shared.gallery.delete("a")
    shared.gallery.delete_content(digest(1), 0)
    assert {"put", "create", "delete"} <= {*calls}


def test_a_content_put_while_it_is_deleted_as_unused_keeps_its_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the files and the row of a put, another process sees that no picture has the content."""
    world.put("a", 1)
    world.gallery.delete("a")
    write_bytes = files.write_bytes

    def overtake(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        if path == world.gallery.files.locate(digest(1)) and world.gallery.list_ids() == []:
            monkeypatch.setattr(files, "write_bytes", write_bytes)
            world.gallery.delete_content(digest(1), 0)

    monkeypatch.setattr(files, "write_bytes", overtake)
    world.put("b", 1)
    assert world.gallery.files.read(digest(1)) and world.gallery.files.read(digest(1), thumbnail=True)


def test_a_put_that_was_committed_does_not_fail_when_the_store_goes_away(
    shared: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = shared.root.commit

    def fail_after_the_row(name: str) -> None:
        if shared.gallery.list_ids():
            raise StoreUnavailable
        commit(name)

    monkeypatch.setattr(shared.root, "commit", fail_after_the_row)
    shared.put("a", 1)
    assert shared.gallery.list_ids() == ["a"]


class Full(NamedTuple):
    """As `shutil.disk_usage` answers for a full disk."""

    total: int = 1 << 40
    used: int = 1 << 40
    free: int = 0


def test_a_full_disk_refuses_a_picture_before_anything_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full())
    with pytest.raises(StorageFull):
        world.put("a", 1)
    assert world.gallery.list_ids() == [] and not world.gallery.files.locate(digest(1)).exists()


@pytest.fixture
def shared(tmp_path: Path, store: str) -> Iterator[World]:
    world = World(tmp_path / "here", store=store)
    yield world
    world.close()


def open_elsewhere(world: World, name: str, store: str) -> Gallery:
    """Open the gallery of the same registry on another machine, which has no file yet."""
    return Gallery(world.registry, DataRoot(world.home.parent / name, store))


def run_before(root: DataRoot, method: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `act` before the first call of a method of `root`, as another process might."""
    real, acts = getattr(root, method), [act]

    def overtake(name: str) -> None:
        while acts:
            acts.pop()()
        real(name)

    monkeypatch.setattr(root, method, overtake)


def test_a_content_that_is_deleted_as_unused_between_its_files_and_its_row_is_put_into_the_store_again(
    shared: World, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gallery(shared.registry, DataRoot(shared.home, store))
    begin, complete = shared.registry.begin, []

    @contextmanager
    def overtake() -> Iterator[Session]:
        monkeypatch.setattr(shared.registry, "begin", begin)
        other.delete_content(digest(1), 0)
        with begin() as session:
            yield session
        complete.append(shared.gallery.files.locate(digest(1)).exists())

    monkeypatch.setattr(shared.registry, "begin", overtake)
    shared.put("a", 1)
    assert complete == [True], "a crash now would leave a row without its file"
    third = open_elsewhere(shared, "third", store)
    assert third.files.read(digest(1)) and third.files.read(digest(1), thumbnail=True)


def test_a_file_that_is_removed_before_it_reaches_the_store_is_written_again(
    shared: World, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gallery(shared.registry, DataRoot(shared.home, store))
    run_before(shared.root, "commit", lambda: other.delete_content(digest(1), 0), monkeypatch)
    shared.put("a", 1)
    assert shared.gallery.files.read(digest(1)) and open_elsewhere(shared, "third", store).files.read(digest(1))


def put_sent(gallery: Gallery, id: str, stored: bytes = b"") -> None:
    """Put `drawn(1)`, with the bytes as they were sent; another machine may encode it as other bytes."""
    new = make_picture(id, 1)
    assert new.picture is not None
    picture = replace(new.picture, original=b"1", stored=stored or new.picture.stored)
    gallery.put([replace(new, picture=picture)], VerifyingEncoder().image_fingerprint)


def damage_everywhere(world: World, store: str) -> None:
    """Damage all files of `drawn(1)`, and in the store too, with a manifest, as release 0.9 shared them."""
    objects = ObjectStore(store)
    for file in (world.home / "pictures").glob("*/*"):
        flip(file)
        name, data = file.relative_to(world.home).as_posix(), file.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        objects.create(f"{name}/{sha256}", data)
        manifest = {"files": {"": {"sha256": sha256, "size": len(data)}}}
        objects.put(f"{name}/manifest.json", json.dumps(manifest).encode())


def assert_whole(gallery: Gallery) -> None:
    with gallery.files.open_original(digest(1)) as stream:
        assert stream.read() == b"1"
    assert gallery.files.read(digest(1)) and gallery.files.read(digest(1), thumbnail=True)


def assert_damaged(gallery: Gallery) -> None:
    for read in (gallery.files.read, gallery.files.open_original):
        with pytest.raises(PictureDamaged):
            read(digest(1))


def test_damage_that_got_into_the_store_is_not_served_and_gives_way_to_what_is_put_again(
    shared: World, store: str
) -> None:
    put_sent(shared.gallery, "a")
    there = open_elsewhere(shared, "there", store)
    damage_everywhere(shared, store)
    for gallery in (shared.gallery, there):
        assert_damaged(gallery)
    put_sent(there, "a")
    for gallery in (there, shared.gallery, open_elsewhere(shared, "third", store)):
        assert_whole(gallery)


def test_two_machines_may_put_again_what_is_damaged_in_the_store(shared: World, store: str) -> None:
    """Whatever each of them does first."""
    for number in range(2):
        put_sent(shared.gallery, "a")
        damage_everywhere(shared, store)
        there = open_elsewhere(shared, f"there {number}", store)
        start = Barrier(2)

        def put(gallery: Gallery, stored: bytes, start: Barrier = start) -> None:
            start.wait()
            insist(lambda: put_sent(gallery, "a", stored))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(put, (shared.gallery, there), (b"here", b"there")))
        for gallery in (shared.gallery, there, open_elsewhere(shared, f"third {number}", store)):
            assert_whole(gallery)


def test_a_move_into_a_store_leaves_out_what_is_damaged(tmp_path: Path, store: str) -> None:
    world = World(tmp_path / "here")
    put_sent(world.gallery, "a")
    world.put("b", 2)
    for file in (locate_file(world, ".jpg"), locate_file(world, ".original")):
        flip(file)
    root = DataRoot(world.home, store)
    with pytest.raises(CorruptFolder, match="2 of 5 "):
        root.commit_all()
    assert len(root.list_stored("pictures")) == 3
    gallery = Gallery(world.registry, root)
    assert_damaged(gallery)
    put_sent(gallery, "a")
    assert_whole(gallery)
    assert root.commit_all() == 5
    world.close()


def locate_file(world: World, suffix: str) -> Path:
    return world.home / "pictures" / digest(1)[:2] / f"{digest(1)}{suffix}"
