"""Files are whole or absent, damage is found, a kill at any point leaves nothing half-written."""

import errno
import os
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
from store.errors import CorruptFolder, StorageFull

POINTS = ["files.temp_open", "files.written", "files.fsynced", "files.renamed", "files.folder_fsynced"]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path, point: str) -> None:
    target = tmp_path / "value"
    files.write_bytes(target, b"old")
    code = f"from pathlib import Path; from store import files; files.write_bytes(Path({str(target)!r}), b'new' * 9)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "FAULT_POINT": f"{point}:1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    renamed = point in {"files.renamed", "files.folder_fsynced"}
    assert target.read_bytes() == (b"new" * 9 if renamed else b"old")
    assert files.sweep(tmp_path) == (0 if renamed else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["value"]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_while_staging_leaves_no_half_folder(tmp_path: Path, point: str) -> None:
    final = tmp_path / "folder"
    code = (
        "from pathlib import Path; from store import files\n"
        f"with files.stage(Path({str(final)!r})) as f:\n"
        "    (f / 'a').write_bytes(b'x' * 5000); files.write_manifest(f, {})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "FAULT_POINT": f"{point}:1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    if final.exists():
        files.verify(final)
    assert final.exists() == (point in {"files.renamed", "files.folder_fsynced"})


def staged(folder: Path) -> str:
    with files.stage(folder) as temporary:
        (temporary / "a.bin").write_bytes(b"abc")
        return files.write_manifest(temporary, {"kind": "test"})


def test_many_may_stage_one_folder_and_remove_it_at_the_same_moment(tmp_path: Path) -> None:
    def write(number: int) -> None:
        start.wait()
        staged(tmp_path / "folder")

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


def test_an_error_inside_a_stage_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.stage(tmp_path / "x") as temporary:
        (temporary / "a").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_second_stage_of_the_same_folder_keeps_the_first(tmp_path: Path) -> None:
    first = staged(tmp_path / "x")
    with files.stage(tmp_path / "x") as temporary:
        (temporary / "other").write_text("later")
    assert files.verify(tmp_path / "x", first)["kind"] == "test"


@pytest.mark.row("K8")
def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    def flip(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"abd")

    def grow(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"abcd")

    def lose(folder: Path) -> None:
        (folder / "a.bin").unlink()

    def add(folder: Path) -> None:
        (folder / "b.bin").write_bytes(b"")

    def headless(folder: Path) -> None:
        (folder / "manifest.json").unlink()

    def rewrite(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"new")
        files.write_manifest(folder, {"kind": "test"})

    for number, harm in enumerate((flip, grow, lose, add, headless, rewrite)):
        folder = tmp_path / str(number)
        sha = staged(folder)
        files.verify(folder, sha)
        harm(folder)
        with pytest.raises(CorruptFolder):
            files.verify(folder, sha)


AWAY = [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT]


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [*AWAY, errno.EIO, errno.ENOENT])
@pytest.mark.parametrize(
    "owner_and_name", [(os, "scandir"), (Path, "open"), (Path, "read_bytes")], ids=lambda at: at[1]
)
def test_what_cannot_be_read_now_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, owner_and_name: tuple[Any, str]
) -> None:
    sha = staged(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(*owner_and_name, failing(number))
        with pytest.raises(OSError if number in AWAY else CorruptFolder):
            files.verify(tmp_path / "x", sha)
    assert files.is_intact(tmp_path / "x", sha)


def test_a_folder_that_cannot_be_listed_now_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest would name no file, its files would not be durable, and it would seem to be old."""
    staged(tmp_path / "x")
    os.utime(tmp_path / "x", (0, 0))
    assert not files.is_older(tmp_path / "x", 60)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing(errno.EACCES))
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


def test_remove_takes_the_whole_folder(tmp_path: Path) -> None:
    staged(tmp_path / "x")
    files.remove(tmp_path / "x")
    files.remove(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
