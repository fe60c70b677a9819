"""How many of our files a request runs through: a newcomer has to read them, so their number must not grow.

Counted with the real encoder, from the arrival of a request to its answer; a file counts when a function of it runs.
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

# The numbers today: whoever lowers one lowers it here (aim: 18). Hits come with their records, which a search reads
# from the database: four files. An upload writes one: two, and its words: two. What a search asks is read in a file of
# its own. Connections that keep the service waiting are closed: one. Children that read pictures and datasets are
# guarded in one place: an upload has one more.
SEARCH, UPLOAD = 25, 36


class CalledFiles:
    """Records the file of every function called during a request, in all threads started after `setprofile`."""

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
def profiled() -> Iterator[CalledFiles]:
    called, before = CalledFiles(), sys.getprofile()
    threading.setprofile(called)
    try:
        yield called
    finally:
        threading.setprofile(before)


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    home = tmp_path_factory.mktemp("called")
    encoder = Encoder(open_base(write_tiny_base(home)))
    with profiled() as called, running(home / "home", encoder, watch_seconds=60) as service:
        for once in range(2):  # what happens only at the first request does not count
            passed = {name: called.of(request) for name, request in requests(service, once).items()}
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
    assert f"service/routes/{'search' if request_ == 'search' else 'gallery'}.py" in files  # the count works
