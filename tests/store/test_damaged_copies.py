"""Damage neither gets into a store nor comes from it in the place of what is whole, or of the only copy there is."""

import errno
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import pytest

from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, StorageFull
from store.objects import Objects
from tests.store.conftest import NewHome
from tests.store.test_data_root import CONTENT, NAME, key, read_files, write

PICTURE = f"pictures/ab/{hashlib.sha256(b'sent').hexdigest()}.original"


def damaged(root: DataRoot, name: str) -> dict[str, bytes]:
    """What a machine has whose copy of something whole in the store is damaged."""
    if name == NAME:
        write(root.path(NAME))
    else:
        files.write_bytes(root.path(name), b"sent")
    root.commit(name)
    (root.path(name) / "rows" if name == NAME else root.path(name)).write_bytes(b"damaged")
    return read_files(root)


@pytest.mark.parametrize("name", [NAME, PICTURE], ids=["folder", "file"])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        StorageFull(),
    ],
    ids=["stopped", "disk", "quota", "full"],
)
def test_a_damaged_copy_stays_until_that_of_the_store_is_here(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    """The registry may have what makes it whole again, or somebody who reads most of it."""
    here = new_home("a")
    before = damaged(here, name)

    def stream(*_: object) -> Iterator[bytes]:
        yield b"s"
        raise error

    told = isinstance(error, StorageFull) or getattr(error, "errno", 0) == errno.EDQUOT
    with monkeypatch.context() as patch:
        patch.setattr(Objects, "stream", stream)
        with nullcontext() if told else pytest.raises(type(error)):
            assert not here.renew(name)
    assert read_files(here) == before
    assert here.renew(name) and read_files(here) != before
    assert [path for path in here.home.rglob("*") if path.name.startswith(files.TEMPORARY)] == []


def test_many_may_renew_one_folder_at_the_same_moment(new_home: NewHome) -> None:
    here = new_home("a")
    damaged(here, NAME)
    start = Barrier(4)

    def renew(_: int) -> bool:
        start.wait()
        return here.renew(NAME)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(renew, range(4)))
    assert files.is_intact(here.path(NAME))
    assert [path.name for path in here.path(NAME).parent.iterdir()] == [here.path(NAME).name]


def test_what_is_damaged_is_not_shared_and_the_rest_is(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    write(here.path(NAME))
    write(here.path("versions/exp_2"))
    (here.path("versions/exp_2") / "rows").write_bytes(b"damaged")
    for name, data in ((PICTURE, b"sent"), ("pictures/cd/0.original", b"not 0"), ("pictures/ab/0.jpg", b"no checksum")):
        files.write_bytes(here.path(name), data)
    with pytest.raises(CorruptFolder, match="3 of 5 "):
        here.commit_all()
    assert there.stored("versions") | there.stored("pictures") == {NAME, PICTURE}


def test_what_another_machine_shared_does_not_replace_ours_before_it_is_known_to_be_whole(
    new_home: NewHome, store: str
) -> None:
    here, there = new_home("a"), new_home("b")
    write(here.path(NAME))
    here.commit(NAME)
    objects = Objects(store)
    objects.put(key(objects, CONTENT["rows"]), b"damaged")
    write(there.path(NAME), {"rows": b"others"})
    before = read_files(there)
    with pytest.raises(CorruptFolder):
        there.commit(NAME)
    assert read_files(there) == before
