"""`import --watch` with real files: added, changed, written slowly, moved in and removed, until a signal ends it."""

import os
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
from client.importing import Record
from client.importing import command as watch
from client.importing.command import SETTLED, WatchedFolder
from client.importing.files import Folder
from client.importing.journal import open_state
from client.importing.upload import Importer
from tests.doubles import WeightlessEncoder
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, picture, running, wait_until
from tests.service.processes import clean_environment

IMPORT = [sys.executable, "-c", "from client.commands import main; main()", "import"]


def start_import(service: Service, *arguments: str) -> "subprocess.Popen[str]":
    """Return `pictoglot import` as a process."""
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
    """Takes its time with pictures."""

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
        watched = WatchedFolder(Folder(folder, Record()), Importer(full.admin, state), False, threading.Event())
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
