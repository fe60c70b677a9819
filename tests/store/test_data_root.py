"""Publishing to a real S3 server and fetching on another machine: whole or not at all, whatever breaks.

Damage neither gets into a store nor comes from it in the place of what is whole, or of the only copy there is.
"""

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest

from model.checkpoint import read_version
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, StorageFull, StoreUnavailable, VersionCorrupt
from store.objects import ObjectStore
from tests.index.world import fail_with
from tests.patience import PATIENCE
from tests.s3_server import S3Server
from tests.store.conftest import NewHome

NAME = "versions/exp_1"
PICTURE = f"pictures/ab/{hashlib.sha256(b'sent').hexdigest()}.original"
CONTENT = {"rows": b"rows" * 1000, "deeper/tokens": b"tokens", "empty": b""}


def write(folder: Path, content: dict[str, bytes] = CONTENT) -> str:
    """Write a finished folder, and return the hash of its manifest."""
    with files.stage(folder) as staged:
        for name, data in content.items():
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_bytes(data)
        return files.write_manifest(staged, {"what": "test"})


def read_files(root: DataRoot) -> dict[str, bytes]:
    return {
        path.relative_to(root.home).as_posix(): path.read_bytes() for path in root.home.rglob("*") if path.is_file()
    }


def find_key(store: ObjectStore, ending: bytes) -> str:
    (found,) = (name for name in store.list_keys("versions") if store.get(name) == ending)
    return found


@dataclass(frozen=True)
class Machines:
    """Two of them; `here` has shared a folder."""

    here: DataRoot
    there: DataRoot
    manifest_sha256: str


@pytest.fixture
def machines(new_home: NewHome) -> Machines:
    here, there = new_home("a"), new_home("b")
    manifest_sha256 = write(here.locate(NAME))
    here.commit(NAME)
    return Machines(here, there, manifest_sha256)


def test_what_is_published_is_the_same_on_another_machine(machines: Machines) -> None:
    here, there = machines.here, machines.there
    datasets = {"small": b"x" * 100, "empty": b"", "in many parts": os.urandom(12 << 20)}
    for name, data in datasets.items():
        files.write_bytes(here.locate(f"expansions/{name}/dataset"), data)
        here.commit(f"expansions/{name}/dataset")
        there.open(f"expansions/{name}/dataset")
    there.open(NAME, machines.manifest_sha256)
    assert read_files(there) == read_files(here)
    assert files.verify(there.locate(NAME), machines.manifest_sha256)["what"] == "test"


def test_what_is_here_is_not_fetched_and_what_is_nowhere_or_is_another_one_stays_away(machines: Machines) -> None:
    there = machines.there
    with pytest.raises(CorruptFolder, match="registered"):
        there.open(NAME, "0" * 64)
    there.locate(NAME).mkdir(parents=True)
    there.open(NAME)
    there.open("versions/exp_2")
    assert read_files(there) == {}


def test_publishing_again_only_brings_back_what_the_store_has_lost(machines: Machines, store: str) -> None:
    write(machines.there.locate(NAME))
    machines.there.commit(NAME)
    machines.here.commit(NAME)
    names = ObjectStore(store).list_keys("")
    assert len(names) == len(CONTENT) + 1 == len(set(names))
    ObjectStore(store).delete([find_key(ObjectStore(store), CONTENT["rows"])])
    machines.here.commit(NAME)
    assert {*ObjectStore(store).list_keys("")} == {*names}


def test_of_two_contents_the_first_stands_on_both_machines(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    for home, content in ((here, b"first"), (there, b"second")):
        write(home.locate(NAME), {"rows": content})
        files.write_bytes(home.locate("plan.json"), content)
        home.commit(NAME)
        home.commit("plan.json")
    assert read_files(there) == read_files(here)
    assert (there.locate(NAME) / "rows").read_bytes() == (there.locate("plan.json")).read_bytes() == b"first"


def test_a_killed_upload_is_invisible_and_the_next_one_completes_it(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    write(here.locate(NAME))
    code = "import sys; from pathlib import Path; from store.data_root import DataRoot; "
    code += f"DataRoot(Path(sys.argv[1]), sys.argv[2]).commit({NAME!r})"
    environment = {**os.environ, "FAULT_POINT": "remote.uploaded:2"}
    killed = subprocess.run(
        [sys.executable, "-c", code, str(here.home), store], env=environment, timeout=PATIENCE, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(ObjectStore(store).list_keys("")) == 2
    there.open(NAME)
    assert not there.home.exists() or read_files(there) == {}
    here.commit(NAME)
    there.open(NAME)
    assert read_files(there) == read_files(here)


@pytest.mark.parametrize("damaged", [b"rows" * 999 + b"rowz", b"", None], ids=["changed", "cut", "gone"])
def test_a_damaged_object_is_refused_and_leaves_nothing(machines: Machines, store: str, damaged: bytes | None) -> None:
    objects = ObjectStore(store)
    broken = find_key(objects, CONTENT["rows"])
    objects.delete([broken])
    if damaged is not None:
        objects.create(broken, damaged)
    with pytest.raises(CorruptFolder):
        machines.there.open(NAME)
    with pytest.raises(VersionCorrupt):
        read_version(machines.there.locate(NAME), machines.manifest_sha256)
    assert read_files(machines.there) == {}


BAD = [
    *(json.dumps({"files": {name: {"sha256": "0" * 64, "size": 1}}}) for name in ("../../evil", "/evil", "a/../../e"))
]


@pytest.mark.parametrize("manifest", [*BAD, "", "[]", '{"files": {"a": 1}}', "\xff"])
def test_a_manifest_that_is_none_or_names_a_file_outside_of_its_folder_is_refused(
    new_home: NewHome, store: str, manifest: str
) -> None:
    ObjectStore(store).create(f"{NAME}/{files.MANIFEST}", manifest.encode("latin-1"))
    with pytest.raises(CorruptFolder, match="outside" if manifest in BAD else "cannot be read"):
        new_home("b").open(NAME)


def test_removing_takes_everything_below_and_nothing_beside(machines: Machines, store: str) -> None:
    here = machines.here
    write(here.locate("versions/exp_12"))
    here.commit("versions/exp_12")
    here.remove(NAME)
    assert {name.split("/")[1] for name in ObjectStore(store).list_keys("")} == {"exp_12"}
    here.remove(NAME)  # again, and of what never was


def test_a_folder_that_is_only_partly_removed_from_the_store_is_not_there_for_others(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, calls = ObjectStore.delete, []

    def fail_after_the_first(self: ObjectStore, keys: Sequence[str]) -> None:
        calls.append(keys)
        if len(calls) > 1:
            raise StoreUnavailable
        delete(self, keys)

    monkeypatch.setattr(ObjectStore, "delete", fail_after_the_first)
    with pytest.raises(StoreUnavailable):
        machines.here.remove_from_store(NAME)
    assert not machines.there.open(NAME).exists()  # a manifest that names missing files would be taken for damage


def test_what_was_there_before_the_store_is_shared_and_scratch_is_not(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    write(here.locate(NAME))
    write(here.locate("versions/.tmp-1"))
    write(here.locate("expansions/e/checkpoints/cy/step-5"))
    decided = ("expansions/e/replayed.json", "expansions/e/pivots-de.json")
    scratch = ("registry.db", "expansions/e/evaluation/cy.json")
    for name in ("pictures/ab/abc.jpg", "expansions/e/dataset", *decided, *scratch):
        files.write_bytes(here.locate(name), files.append_checksum(name.encode()))
    assert here.commit_all() == 5
    shared = (NAME, "pictures/ab/abc.jpg", "expansions/e/dataset", *decided)
    for name in (*shared, *scratch, "expansions/e/checkpoints/cy/step-5"):
        there.open(name)
    assert {path.split("/")[0] for path in read_files(there)} == {"versions", "pictures", "expansions"}
    assert not (there.locate("expansions/e/checkpoints")).exists()
    assert not any(there.locate(name).exists() for name in scratch)


def test_while_the_store_is_away_what_is_here_can_be_read_but_nothing_is_decided(
    own_s3: S3Server, tmp_path: Path
) -> None:
    root = DataRoot(tmp_path, own_s3.create_bucket())
    write(root.locate(NAME))
    for name in ("plan.json", "cursor.key"):
        files.write_bytes(root.locate(name), b"mine")
    root.probe()
    with pytest.raises(StoreUnavailable):
        DataRoot(tmp_path, "s3://no-such-bucket").commit(NAME)
    own_s3.kill()
    refused: tuple[Callable[[], object], ...] = (
        lambda: root.commit(NAME),
        lambda: root.remove(NAME),
        lambda: root.open("versions/exp_2"),
        lambda: root.read_or_create("plan.json", lambda: b"other"),  # the decision may be another one's in the store
        root.probe,
    )
    for act in refused:
        with pytest.raises(StoreUnavailable):
            act()
    assert files.verify(root.open(NAME))  # the store is not asked
    assert (
        root.read_or_create("cursor.key", lambda: b"other", private=True) == b"mine"
    )  # otherwise no process could start
    assert root.locate("plan.json").read_bytes() == b"mine"


def test_of_several_machines_the_first_writer_in_the_store_decides(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")

    def make_slowly() -> bytes:
        there.read_or_create("plan.json", lambda: b"first")
        return b"second"

    assert here.read_or_create("plan.json", make_slowly) == b"first"
    assert new_home("c").read_or_create("plan.json", lambda: pytest.fail("it was decided already")) == b"first"
    assert read_files(here) == read_files(there) == {"plan.json": b"first"}


@pytest.mark.parametrize("private", [False, True])
def test_a_file_that_was_written_and_not_shared_is_shared_by_the_next_reader(new_home: NewHome, private: bool) -> None:
    # written before there was a store, or by a process that was killed between writing and sharing
    here, there, third = new_home("a"), new_home("b"), new_home("c")
    files.write_bytes(here.locate("plan.json"), b"killed")
    assert here.read_or_create("plan.json", lambda: b"never", private=private) == b"killed"
    files.write_bytes(there.locate("plan.json"), b"second")
    assert there.read_or_create("plan.json", lambda: b"never", private=private) == b"killed"
    assert third.open("plan.json").read_bytes() == b"killed"


def test_a_new_file_that_cannot_be_shared_is_not_kept(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the next start would take it for the shared one
    root = DataRoot(tmp_path, store)
    monkeypatch.setattr(ObjectStore, "put", fail_with(StoreUnavailable()))
    for private in (False, True):
        with pytest.raises(StoreUnavailable):
            root.read_or_create("plan.json", lambda: b"first", private=private)
        assert read_files(root) == {}


def damage_copy(root: DataRoot, name: str) -> dict[str, bytes]:
    """Damage a machine's copy of something whole in the store, and return its files."""
    if name == NAME:
        write(root.locate(NAME))
    else:
        files.write_bytes(root.locate(name), b"sent")
    root.commit(name)
    (root.locate(name) / "rows" if name == NAME else root.locate(name)).write_bytes(b"damaged")
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
    # the registry may have what makes it whole again, and some readers need only a part
    here = new_home("a")
    before = damage_copy(here, name)

    def stream(*_: object) -> Iterator[bytes]:
        yield b"s"
        raise error

    is_full = isinstance(error, StorageFull) or getattr(error, "errno", 0) == errno.EDQUOT
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "stream", stream)
        with nullcontext() if is_full else pytest.raises(type(error)):
            assert not here.renew(name)
    assert read_files(here) == before
    assert here.renew(name) and read_files(here) != before
    assert [path for path in here.home.rglob("*") if path.name.startswith(files.TEMPORARY)] == []


def test_a_copy_that_finds_the_disk_full_is_refused_as_such(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    write(new_home("a").locate(NAME))
    new_home("a").commit(NAME)

    def stream(*_: object) -> Iterator[bytes]:
        yield b"s"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ObjectStore, "stream", stream)
    there = new_home("b")
    with pytest.raises(StorageFull):
        there.open(NAME)
    assert not there.locate(NAME).exists() and read_files(there) == {}


def test_many_may_renew_one_folder_at_the_same_moment(new_home: NewHome) -> None:
    here = new_home("a")
    damage_copy(here, NAME)
    start = Barrier(4)

    def renew(_: int) -> bool:
        start.wait()
        return here.renew(NAME)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(renew, range(4)))
    assert files.is_intact(here.locate(NAME))
    assert [path.name for path in here.locate(NAME).parent.iterdir()] == [here.locate(NAME).name]


def test_what_is_damaged_is_not_shared_and_the_rest_is(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    write(here.locate(NAME))
    write(here.locate("versions/exp_2"))
    (here.locate("versions/exp_2") / "rows").write_bytes(b"damaged")
    for name, data in ((PICTURE, b"sent"), ("pictures/cd/0.original", b"not 0"), ("pictures/ab/0.jpg", b"no checksum")):
        files.write_bytes(here.locate(name), data)
    with pytest.raises(CorruptFolder, match="3 of 5 "):
        here.commit_all()
    assert there.list_stored("versions") | there.list_stored("pictures") == {NAME, PICTURE}


def test_what_another_machine_shared_does_not_replace_ours_before_it_is_known_to_be_whole(
    machines: Machines, store: str
) -> None:
    there, objects = machines.there, ObjectStore(store)
    objects.put(find_key(objects, CONTENT["rows"]), b"damaged")
    write(there.locate(NAME), {"rows": b"others"})
    before = read_files(there)
    with pytest.raises(CorruptFolder):
        there.commit(NAME)
    assert read_files(there) == before


def test_a_request_without_an_answer_is_asked_again(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nLast-Modified: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Length: 7\r\n\r\n'
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        listener.settimeout(PATIENCE)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        content = threads.submit(ObjectStore(store).get, "name")
        with listener.accept()[0], listener.accept()[0] as second:
            second.recv(1 << 16)
            second.sendall(head + b"content")
            assert content.result(PATIENCE) == b"content"
