"""Publishing to a real S3 server and fetching on another machine: whole or not at all, whatever breaks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model import remote, storage
from model.errors import CorruptFolder, StoreUnavailable, VersionCorrupt
from model.objects import Objects
from model.version import read
from tests.s3_server import S3Server

NAME = "versions/exp_1"
CONTENT = {"rows": b"rows" * 1000, "deeper/tokens": b"tokens", "empty": b""}
NewHome = Callable[[str], Path]


@pytest.fixture
def new_home(store: str, tmp_path: Path) -> NewHome:
    """A machine's own data root, mounted on the store."""

    def make(name: str) -> Path:
        remote.mount(tmp_path / name, store)
        return tmp_path / name

    return make


def write(folder: Path, content: dict[str, bytes] = CONTENT) -> str:
    """A finished folder; returns its manifest's hash."""
    with storage.stage(folder) as staged:
        for name, data in content.items():
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_bytes(data)
        return storage.write_manifest(staged, {"what": "test"})


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def key(store: Objects, ending: bytes) -> str:
    """The key in the store of the object with this content."""
    (found,) = (name for name in store.names("versions") if store.get(name) == ending)
    return found


def test_a_published_folder_is_the_same_on_another_machine(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    manifest_sha256 = write(here / NAME)
    remote.publish(here / NAME)
    remote.fetch(there / NAME, manifest_sha256)
    assert files(there) == files(here)
    assert storage.verify(there / NAME, manifest_sha256)["what"] == "test"


@pytest.mark.parametrize("data", [b"x" * 100, b"", os.urandom(12 << 20)], ids=["small", "empty", "in many parts"])
def test_a_published_file_is_the_same_on_another_machine(new_home: NewHome, data: bytes) -> None:
    here, there = new_home("a"), new_home("b")
    storage.write_bytes(here / "expansions/e/dataset", data)
    remote.publish(here / "expansions/e/dataset")
    remote.fetch(there / "expansions/e/dataset")
    assert files(there) == files(here)


def test_what_is_here_is_not_fetched_and_what_is_nowhere_stays_away(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    write(here / NAME)
    remote.publish(here / NAME)
    (there / NAME).mkdir(parents=True)
    remote.fetch(there / NAME)
    remote.fetch(there / "versions/exp_2")
    assert files(there) == {}


def test_publishing_again_changes_nothing_in_the_store(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    for home in (here, there, here):
        if not (home / NAME).exists():
            write(home / NAME)
        remote.publish(home / NAME)
    names = Objects(store).names("")
    assert len(names) == len(CONTENT) + 1 == len(set(names))


def test_of_two_contents_the_first_stands_on_both_machines(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    for home, content in ((here, b"first"), (there, b"second")):
        write(home / NAME, {"rows": content})
        storage.write_bytes(home / "plan.json", content)
        remote.publish(home / NAME)
        remote.publish(home / "plan.json")
    assert files(there) == files(here)
    assert (there / NAME / "rows").read_bytes() == (there / "plan.json").read_bytes() == b"first"


def test_a_killed_upload_is_invisible_and_the_next_one_completes_it(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    write(here / NAME)
    code = "import sys; from pathlib import Path; from model import remote; root = Path(sys.argv[1]); "
    code += f"remote.mount(root, sys.argv[2]); remote.publish(root / {NAME!r})"
    environment = {**os.environ, "FAULT_POINT": "remote.uploaded:2"}
    killed = subprocess.run([sys.executable, "-c", code, str(here), store], env=environment, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(Objects(store).names("")) == 2
    remote.fetch(there / NAME)
    assert not there.exists() or files(there) == {}
    remote.publish(here / NAME)
    remote.fetch(there / NAME)
    assert files(there) == files(here)


@pytest.mark.parametrize("damaged", [b"rows" * 999 + b"rowz", b"", None], ids=["changed", "cut", "gone"])
def test_a_damaged_object_is_refused_and_leaves_nothing(new_home: NewHome, store: str, damaged: bytes | None) -> None:
    here, there = new_home("a"), new_home("b")
    manifest_sha256 = write(here / NAME)
    remote.publish(here / NAME)
    objects = Objects(store)
    broken = key(objects, CONTENT["rows"])
    objects.delete([broken])
    if damaged is not None:
        objects.create(broken, damaged)
    with pytest.raises(CorruptFolder):
        remote.fetch(there / NAME)
    with pytest.raises(VersionCorrupt):
        read(there / NAME, manifest_sha256)
    assert files(there) == {}


def test_an_object_that_was_lost_comes_back_with_the_next_publish(new_home: NewHome, store: str) -> None:
    here, there = new_home("a"), new_home("b")
    write(here / NAME)
    remote.publish(here / NAME)
    Objects(store).delete([key(Objects(store), CONTENT["rows"])])
    remote.publish(here / NAME)
    remote.fetch(there / NAME)
    assert files(there) == files(here)


def test_another_manifest_than_the_registered_one_is_refused(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    write(here / NAME)
    remote.publish(here / NAME)
    with pytest.raises(CorruptFolder, match="registered"):
        remote.fetch(there / NAME, "0" * 64)
    assert not (there / NAME).exists()


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../evil"])
def test_a_manifest_cannot_write_outside_of_its_folder(new_home: NewHome, store: str, name: str) -> None:
    there = new_home("b")
    facts = {"sha256": "0" * 64, "size": 1}
    Objects(store).create(f"{NAME}/{storage.MANIFEST}", json.dumps({"files": {name: facts}}).encode())
    with pytest.raises(CorruptFolder, match="outside"):
        remote.fetch(there / NAME)


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"files": {"a": 1}}', b"\xff"])
def test_a_manifest_that_is_none_is_refused(new_home: NewHome, store: str, manifest: bytes) -> None:
    there = new_home("b")
    Objects(store).create(f"{NAME}/{storage.MANIFEST}", manifest)
    with pytest.raises(CorruptFolder):
        remote.fetch(there / NAME)


def test_a_locally_damaged_folder_is_not_published(new_home: NewHome, store: str) -> None:
    here = new_home("a")
    write(here / NAME)
    (here / NAME / "rows").write_bytes(b"something else")
    with pytest.raises(CorruptFolder):
        remote.publish(here / NAME)
    assert f"{NAME}/{storage.MANIFEST}" not in Objects(store).names("")


def test_removing_takes_everything_below_and_nothing_beside(new_home: NewHome, store: str) -> None:
    here = new_home("a")
    for name in (NAME, "versions/exp_12"):
        write(here / name)
        remote.publish(here / name)
    remote.remove(here / NAME)
    assert {name.split("/")[1] for name in Objects(store).names("")} == {"exp_12"}
    remote.remove(here / NAME)  # again, and of what never was


def test_what_was_there_before_the_store_is_shared_and_scratch_is_not(new_home: NewHome) -> None:
    here, there = new_home("a"), new_home("b")
    write(here / NAME)
    write(here / "versions/.tmp-1")
    write(here / "expansions/e/checkpoints/cy/step-5")
    for name in ("pictures/ab/abc.webp", "expansions/e/dataset", "registry.db"):
        storage.write_bytes(here / name, name.encode())
    assert remote.publish_all(here) == 3
    shared = (NAME, "pictures/ab/abc.webp", "expansions/e/dataset")
    for name in (*shared, "registry.db", "expansions/e/checkpoints/cy/step-5"):
        remote.fetch(there / name)
    assert {path.split("/")[0] for path in files(there)} == {"versions", "pictures", "expansions"}
    assert not (there / "expansions/e/checkpoints").exists()


def test_a_root_without_a_store_asks_nobody(tmp_path: Path) -> None:
    write(tmp_path / NAME)
    remote.mount(tmp_path, "")
    assert not remote.mounted(tmp_path / NAME)
    for act in (remote.publish, remote.fetch, remote.remove, remote.probe):
        act(tmp_path / NAME)
    assert storage.verify(tmp_path / NAME)


def test_a_store_that_is_away_is_a_refusal_and_what_is_here_stays(own_s3: S3Server, tmp_path: Path) -> None:
    remote.mount(tmp_path, own_s3.bucket())
    write(tmp_path / NAME)
    remote.probe(tmp_path)
    own_s3.kill()
    for act in (remote.publish, remote.remove, remote.probe):
        with pytest.raises(StoreUnavailable):
            act(tmp_path / NAME)
    with pytest.raises(StoreUnavailable):
        remote.fetch(tmp_path / "versions/exp_2")
    remote.fetch(tmp_path / NAME)  # is here: nobody is asked
    assert storage.verify(tmp_path / NAME)


def test_a_bucket_that_does_not_exist_is_a_refusal(store: str, tmp_path: Path) -> None:
    remote.mount(tmp_path, "s3://no-such-bucket")
    write(tmp_path / NAME)
    with pytest.raises(StoreUnavailable):
        remote.publish(tmp_path / NAME)
