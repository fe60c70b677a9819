"""Through how many of our files a request passes: a newcomer has to read these, so there must not be more and more.

Counted with the real encoder, between the arrival of a request and its answer; a file counts when a function of it runs.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx
import pytest

from model.base import open_base
from model.encoder import Encoder
from tests.house.source import PACKAGES, ROOT
from tests.service.harness import Service, running
from tests.tiny import write_tiny_base

SEARCH, UPLOAD = 18, 27  # what they are today; issues that replace `index/` bring the upload's down


class Rooms:
    """Notes the files of every function that is called while it is open, in all threads begun after it was made."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._open = False
        self._inside = tuple(f"{ROOT / package}/" for package in PACKAGES)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if self._open and event == "call" and frame.f_code.co_filename.startswith(self._inside):
            self.files.add(str(Path(frame.f_code.co_filename).relative_to(ROOT)))

    def of(self, request: Callable[[], httpx.Response]) -> list[str]:
        self.files.clear()
        self._open = True
        try:
            response = request()
        finally:
            self._open = False
        assert response.is_success, response.text
        return sorted(self.files)


@contextmanager
def watched() -> Iterator[Rooms]:
    rooms, before = Rooms(), sys.getprofile()
    threading.setprofile(rooms)
    try:
        yield rooms
    finally:
        threading.setprofile(before)


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    home = tmp_path_factory.mktemp("rooms")
    encoder = Encoder(open_base(write_tiny_base(home)))
    with watched() as rooms, running(home / "home", encoder, watch_seconds=60) as service:
        for once in range(2):  # what happens only at the first request does not count
            passed = {name: rooms.of(request) for name, request in requests(service, once).items()}
    return passed


def requests(service: Service, number: int) -> dict[str, Callable[[], httpx.Response]]:
    return {
        "upload": lambda: service.put(f"p{number}", en=[f"apple {number}"]),
        "search": lambda: service.search(f"a red apple {number}"),
    }


@pytest.mark.parametrize(("request_", "most"), [("search", SEARCH), ("upload", UPLOAD)])
def test_a_request_passes_through_no_more_files_than_today(
    passed: dict[str, list[str]], request_: str, most: int
) -> None:
    files = passed[request_]
    assert len(files) <= most, "\n".join(files)
    assert f"service/routes/{'search' if request_ == 'search' else 'gallery'}.py" in files  # it counts at all
