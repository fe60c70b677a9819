"""Files are whole or absent, damage is found, a kill at any point leaves nothing half-written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, StorageFull
from store.keys import find_signer, sign_file
from tests.index.world import fail_with

POINTS = [f"files.{step}" for step in ("temp_open", "written", "fsynced", "renamed", "folder_fsynced")]
DIES = """
import os, sys
from pathlib import Path
from store import files

def write(folder):
    files.write_bytes(folder / "value", b"new" * 9)

def stage(folder):
    with files.stage(folder / "folder") as staged:
        (staged / "a").write_bytes(b"x" * 5000)
        files.write_manifest(staged, {})

for point in sys.argv[2:]:
    for act in (write, stage):
        if not os.fork():
            os.environ["FAULT_POINT"] = point
            act(Path(sys.argv[1], point))
            os._exit(0)
        sys.stdout.write(f"{os.WTERMSIG(os.wait()[1])} ")
"""


def test_a_kill_leaves_the_old_file_or_the_new_one_and_no_half_folder(tmp_path: Path) -> None:
    for point in POINTS:
        files.write_bytes(tmp_path / point / "value", b"old")
    done = subprocess.run([sys.executable, "-c", DIES, tmp_path, *POINTS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(signal.SIGKILL.value)] * 2 * len(POINTS)
    for point in POINTS:
        folder, renamed = tmp_path / point, point in {"files.renamed", "files.folder_fsynced"}
        assert (folder / "value").read_bytes() == (b"new" * 9 if renamed else b"old")
        assert files.sweep(folder) == (0 if renamed else 2)
        assert [path.name for path in sorted(folder.iterdir())] == ["folder", "value"][not renamed :]
        if renamed:
            files.verify(folder / "folder")


def test_a_folder_that_is_staged_is_swept_by_nobody_however_long_it_takes(tmp_path: Path) -> None:
    with files.stage(tmp_path / "segment") as staged:
        os.utime(staged, (0, 0))
        assert files.sweep(tmp_path) == files.sweep(tmp_path, 3_600) == 0 and not files.is_older(staged, 0)
        (staged / "rows").touch()
    assert [*tmp_path.iterdir()] == [tmp_path / "segment"]


def write_staged(folder: Path) -> str:
    with files.stage(folder) as temporary:
        (temporary / "a.bin").write_bytes(b"abc")
        return files.write_manifest(temporary, {"kind": "test"})


def test_many_may_stage_one_folder_and_remove_it_at_the_same_moment(tmp_path: Path) -> None:
    def write(number: int) -> None:
        start.wait()
        write_staged(tmp_path / "folder")

    def remove(number: int) -> None:
        start.wait()
        files.remove(tmp_path / "folder")

    for _ in range(30):
        for act in (write, remove):
            start = Barrier(4)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(act, range(4)))
            assert (tmp_path / "folder").exists() == (act is write)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.row("S5")
def test_an_error_inside_a_stage_leaves_nothing_and_a_second_one_keeps_the_first(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.stage(tmp_path / "x") as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    first = write_staged(tmp_path / "x")
    with files.stage(tmp_path / "x") as temporary:
        (temporary / "other").write_text("later")
    assert files.verify(tmp_path / "x", first)["kind"] == "test"


@pytest.mark.row("K8")
def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    def rewrite(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"new")
        files.write_manifest(folder, {"kind": "test"})

    harms: tuple[Callable[[Path], object], ...] = (
        lambda folder: (folder / "a.bin").write_bytes(b"abd"),
        lambda folder: (folder / "a.bin").write_bytes(b"abcd"),
        lambda folder: (folder / "a.bin").unlink(),
        lambda folder: (folder / "b.bin").write_bytes(b""),
        lambda folder: (folder / "manifest.json").unlink(),
        rewrite,
    )
    for number, harm in enumerate(harms):
        folder = tmp_path / str(number)
        sha = write_staged(folder)
        files.verify(folder, sha)
        harm(folder)
        with pytest.raises(CorruptFolder):
            files.verify(folder, sha)


AWAY = [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT]


@pytest.mark.parametrize("number", [*AWAY, errno.EIO, errno.ENOENT])
@pytest.mark.parametrize(
    "owner_and_name", [(os, "scandir"), (Path, "open"), (Path, "read_bytes")], ids=lambda at: at[1]
)
def test_what_cannot_be_read_now_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, owner_and_name: tuple[Any, str]
) -> None:
    sha = write_staged(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(*owner_and_name, fail_with(OSError(number, os.strerror(number))))
        with pytest.raises(OSError if number in AWAY else CorruptFolder):
            files.verify(tmp_path / "x", sha)
    assert files.is_intact(tmp_path / "x", sha)


def test_a_folder_that_cannot_be_listed_now_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # its manifest would name no file, its files would not be durable, and it would seem to be old
    write_staged(tmp_path / "x")
    os.utime(tmp_path / "x", (0, 0))
    assert not files.is_older(tmp_path / "x", 60)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail_with(OSError(errno.EACCES, os.strerror(errno.EACCES))))
        assert not files.is_older(tmp_path / "x", 60)
        with pytest.raises(PermissionError):
            files.write_manifest(tmp_path / "x", {})
        with pytest.raises(PermissionError), files.stage(tmp_path / "y"):
            pass
    assert files.is_intact(tmp_path / "x") and not (tmp_path / "y").exists()


def test_free_space_is_asked_for(tmp_path: Path) -> None:
    files.require_free(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageFull):
        files.require_free(tmp_path, 1 << 60)


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_itself_checks_a_signature(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text("{}")
    signature = sign_file(DataRoot(tmp_path), file, "Welsh:")
    (tmp_path / "manifest.json.minisig").write_text(signature)
    checked = ["minisign", "-V", "-m", str(file), "-P", find_signer(file, signature)]
    assert "Welsh: " in subprocess.run(checked, capture_output=True, text=True, check=True).stdout
    file.write_text("[]")
    assert subprocess.run(checked, capture_output=True, check=False).returncode != 0
    for wrong in (signature, signature.replace("\n", ""), signature.replace(":", "é"), "", "\n\n\n\n"):
        with pytest.raises(ValueError):
            find_signer(file, wrong)
