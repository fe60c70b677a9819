"""`import --watch` and `--delete`: files added, changed, written slowly, moved, removed, or away; ended or killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import api
from client.importing import SourceRecord
from client.importing import command as watch
from client.importing.command import SETTLED, WatchedFolder
from client.importing.files import Folder
from client.importing.journal import open_state
from client.importing.upload import AT_ONCE, CHUNK, Importer
from tests.client.importing.test_import import list_present
from tests.client.test_commands import run, run_json
from tests.doubles import WeightlessEncoder
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, picture, running, share_service, wait_until
from tests.service.processes import clean_environment

IMPORT = [sys.executable, "-c", "from client.commands import main; main()", "import"]
PICTURES = 300
service = share_service()  # an empty gallery; each test uses names of its own


def start_import(service: Service, *arguments: str) -> "subprocess.Popen[str]":
    own = {"PICTOGLOT_URL": service.url, "PICTOGLOT_KEY": ADMIN_KEY}
    return subprocess.Popen(
        [*IMPORT, *arguments], env=clean_environment() | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def watch_folder(service: Service, folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = start_import(service, str(folder), "--watch", *arguments)
    try:
        assert process.stdout is not None
        assert "Watching" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def read_address(service: Service, id: str) -> str | None:
    answer = service.admin.get(f"/v1/pictures/{id}", params={"fields": "url"})
    return str(answer.json()["url"]) if answer.status_code == 200 else None


@pytest.mark.slow
def test_a_watched_folder_and_the_gallery_stay_the_same(tmp_path: Path) -> None:
    folder, outside = tmp_path / "photos", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    for number, name in enumerate(("kept.png", "moved.png", "removed.png")):
        (folder / name).write_bytes(picture(number))
    with running(tmp_path / "home") as service, watch_folder(service, folder, "--delete") as process:
        before = read_address(service, "kept")
        written = list[float]()
        slow = threading.Thread(target=write_slowly, args=(folder / "slow.png", picture(5, side=400), written))
        slow.start()
        (outside / "in.png").write_bytes(picture(4))
        outside.rename(folder / "inside")
        (folder / "added.png").write_bytes(picture(6))
        (folder / "kept.png").write_bytes(picture(7))
        (folder / "moved.png").rename(folder / "inside" / "moved.png")
        (folder / "removed.png").unlink()
        here = ("added", "inside%2Fin", "inside%2Fmoved")
        wait_until(lambda: all(read_address(service, id) for id in here) and read_address(service, "kept") != before)
        wait_until(lambda: not any(read_address(service, id) for id in ("removed", "moved")))
        while slow.is_alive():
            assert read_address(service, "slow") is None, "a part of it was sent"
            time.sleep(0.1)
        wait_until(lambda: read_address(service, "slow") is not None)
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and said.endswith("Stopped watching.\n")
        assert "Traceback" not in complained
        # where the machine stood still for so long between two writes, the half of the file counted as whole
        longest = max(later - earlier for earlier, later in pairwise(written))
        assert "slow" not in complained or longest > SETTLED - 0.1


def write_slowly(file: Path, whole: bytes, written: list[float]) -> None:
    """Write pieces, as a camera or a network does; note in `written` when each was."""
    with file.open("wb", buffering=0) as stream:
        for start in range(0, len(whole), len(whole) // 8):
            stream.write(whole[start : start + len(whole) // 8])
            written.append(time.monotonic())
            time.sleep(0.4)


class Slow(WeightlessEncoder):
    def __init__(self) -> None:
        self.began = threading.Event()

    def encode_pictures(self, images: Any, batch: int = 64) -> Any:
        self.began.set()
        time.sleep(0.2)
        return super().encode_pictures(images, batch)


@pytest.mark.slow
def test_a_signal_ends_the_first_walk_and_nothing_counts_as_vanished(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "z.png").write_bytes(picture(999))
    os.utime(folder / "z.png", (1, 1))
    with running(tmp_path / "home", encoder := Slow()) as service:
        with watch_folder(service, folder, "--delete"):
            pass
        for number in range(300):
            (folder / f"{number:03d}.png").write_bytes(picture(number, side=32))
            os.utime(folder / f"{number:03d}.png", (1, 1))
        encoder.began.clear()
        process = start_import(service, str(folder), "--watch", "--delete")
        try:
            assert encoder.began.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            said, complained = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert (process.returncode, said) == (0, "Stopped watching.\n")
        assert "pictures were sent until then" in complained and "Traceback" not in complained
        assert read_address(service, "z") is not None and len(service.context.gallery.list_ids()) < 150


def test_a_watch_waits_for_a_service_that_has_no_room_or_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "_BUSY_PAUSE", PATIENCE)
    monkeypatch.setattr(api, "pause", lambda seconds, stopping: None)
    monkeypatch.setattr(api, "PATIENCE", 0.5)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))
    os.utime(folder / "a.png", (1, 1))
    with running(tmp_path / "full", free_bytes=1 << 60) as full, ExitStack() as later:
        state = later.enter_context(open_state(tmp_path / "state", full.url, str(folder)))
        watched = WatchedFolder(Folder(folder, SourceRecord()), Importer(full.admin, state), False, threading.Event())
        watched.look([])
        watched.look([])  # too early: nothing is asked
        assert capsys.readouterr().err.count("What changed waits.") == 1
        kept, port = later.pop_all(), full.port
    watched._not_before = 0.0
    with httpx.Client(base_url=full.url) as watched._importer.client:
        watched.look([])  # nobody answers
    with kept, running(tmp_path / "other", port=port) as service:
        watched._importer.client = service.admin
        watched.look([])
        assert read_address(service, "a") is not None and "Watching" in capsys.readouterr().out


class Counting(WeightlessEncoder):
    """Remembers how many pictures it has encoded."""

    def __init__(self) -> None:
        self.encoded_count = 0

    def encode_pictures(self, images: Any, batch: int = 64) -> Any:
        self.encoded_count += len(images)
        return super().encode_pictures(images, batch)


@pytest.mark.faults
def test_a_killed_import_is_whole_after_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(PICTURES):
        file = folder / f"{number % 5}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number, side=32))
    with running(tmp_path / "home", encoder := Counting()) as service:
        killed = start_import(service, str(folder))
        wait_until(lambda: encoder.encoded_count > PICTURES // 4)
        killed.kill()
        killed.communicate()
        wait_until(lambda: is_idle(service))
        before = len(service.context.gallery.list_ids())
        assert 0 < before < PICTURES, "it was killed while it was at work"
        said, complained = start_import(service, str(folder), "--json").communicate(timeout=PATIENCE)
        assert complained == ""
        done = json.loads(said)
        assert (len(done["added"]), done["there"], done["refused"]) == (PICTURES - before, before, [])
        expected = [f"{number % 5}/{number:03d}" for number in range(PICTURES)]
        assert service.context.gallery.list_ids() == sorted(expected)
        assert encoder.encoded_count <= PICTURES + AT_ONCE * CHUNK
        again, _ = start_import(service, str(folder)).communicate(timeout=PATIENCE)
        assert f"{PICTURES} were there before" in again


def is_idle(service: Service) -> bool:
    """Whether nothing is under way, and the gallery does not grow any more."""
    before, pictures = service.context.gallery.read_last_change(), service.context.picture_queue
    time.sleep(0.5)
    under_way = pictures.batches.requests + pictures.uploads.requests
    return under_way == 0 and service.context.gallery.read_last_change() == before


def test_files_of_a_manifest_that_are_away_and_torn_rows_delete_nothing(service: Service, tmp_path: Path) -> None:
    disk, table = tmp_path / "disk", tmp_path / "list.csv"
    disk.mkdir()
    for number in range(3):
        (disk / f"{number}.png").write_bytes(picture(number))
    table.write_text("file,id\n0.png,m-0\n1.png,m-1\n2.png,m-2\n")
    names = ["m-0", "m-1", "m-2"]
    given = ("import", str(table), "--root", str(disk), "--delete")
    run_json(service, *given)
    (disk / "1.png").rename(disk / "x")
    done = run(service, *given)
    assert done.exit_code == 1 and list_present(service, names) == names
    assert "Not everything could be seen: line 3. What was there before is not deleted." in done.stderr
    shutil.rmtree(disk)
    disk.mkdir()
    away = run(service, *given)
    assert (away.exit_code, list_present(service, names)) == (2, names)
    assert "line 2: 0.png cannot be read" in away.stderr and "nothing is deleted" in away.stderr
    (disk / "0.png").write_bytes(picture(0))
    table.write_text("file,id\n0.png,m-0\n")
    assert run_json(service, *given)["deleted"] == 2 and list_present(service, names) == ["m-0"]


def test_what_is_below_a_disk_that_is_away_is_not_deleted(service: Service, tmp_path: Path) -> None:
    """A link to it that leads nowhere, and a folder that it was mounted on; an empty folder in which nothing was."""
    folder, disk = tmp_path / "photos", tmp_path / "disk"
    for place in (folder / "mounted", folder / "never", disk):
        place.mkdir(parents=True)
    for file in (folder / "here.png", folder / "gone.png", folder / "mounted" / "a.png", disk / "b.png"):
        file.write_bytes(picture(7))
    (folder / "linked").symlink_to(disk)
    names = ["gone", "here", "linked/b", "mounted/a"]
    run_json(service, "import", str(folder), "--delete")
    assert list_present(service, names) == names
    disk.rename(tmp_path / "away")
    for gone in ("mounted/a.png", "gone.png"):
        (folder / gone).unlink()
    done = run(service, "import", str(folder), "--delete")
    assert done.exit_code == 1 and list_present(service, names) == names[1:]
    assert "linked: The link leads nowhere." in done.stderr
    assert "linked, mounted. What was there before is not deleted." in done.stderr
    (folder / "linked").unlink()
    (folder / "mounted").rmdir()
    assert run_json(service, "import", str(folder), "--delete")["deleted"] == 2
