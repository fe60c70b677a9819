"""How many of our files the three trips lead through: who wants to understand one reads these, and no more of them.

A search, an upload, and a language from its submission to its release run with a real model. A file counts when a
function of it runs; a *move* is a function of one file that calls a function of another, however often it does.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
import pytest

from model.base import open_base
from model.encoder import Encoder
from tests.house.source import PACKAGES, ROOT
from tests.service.harness import running
from tests.tiny import write_tiny_base
from tests.worker.harness import Site, attempt_at, pairs
from worker.child import run

# (files, moves) today, of the shortest try: whoever lowers one lowers it here. Aims: 22 and 45, 30 files, 62.
# The end of an answer is one of the moves; where the client is faster than the recorder, it is missing
MOST = {"search": (22, 67), "upload": (30, 112), "language": (61, 471)}


@dataclass
class Trip:
    """The files whose functions ran, and the calls between them."""

    files: set[str] = field(default_factory=set)
    moves: set[tuple[CodeType, CodeType]] = field(default_factory=set)


class TripRecorder:
    """A profile function for all threads: records calls into our files while a trip is under way."""

    def __init__(self) -> None:
        self._trip: Trip | None = None
        self._inside = tuple(f"{ROOT / package}/" for package in PACKAGES)

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if self._trip is None or event != "call" or not self._is_ours(frame):
            return
        self._trip.files.add(_name_file(frame))
        caller = frame.f_back
        while caller is not None and not self._is_ours(caller):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != frame.f_code.co_filename:
            self._trip.moves.add((caller.f_code, frame.f_code))

    def follow(self, act: Callable[[], object]) -> Trip:
        """Return what ran in all threads while `act` did: also what was nothing of its business."""
        self._trip = trip = Trip()
        try:
            act()
        finally:
            self._trip = None
        return trip

    def _is_ours(self, frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(self._inside)


def _name_file(frame: FrameType) -> str:
    return str(Path(frame.f_code.co_filename).relative_to(ROOT))


@contextmanager
def start_profile() -> Iterator[TripRecorder]:
    recorder, before = TripRecorder(), sys.getprofile()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        yield recorder
    finally:
        threading.setprofile(before)
        sys.setprofile(before)


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trip]:
    home = tmp_path_factory.mktemp("trips")
    base = write_tiny_base(home)
    encoder = Encoder(open_base(base))
    site = Site(home / "site", base)
    trips = dict[str, Trip]()

    def ask(name: str, request: Callable[[], httpx.Response]) -> None:
        trip = recorder.follow(lambda: request().raise_for_status())
        trips[name] = min(trips.get(name, trip), trip, key=lambda each: (len(each.files), len(each.moves)))

    with start_profile() as recorder:
        with running(home / "home", encoder, watch_seconds=60) as service:
            for once in range(12):  # what happens only at the first request, or beside one of them, does not count
                ask("upload", lambda: service.put(f"p{once}", en=[f"apple {once}"]))  # noqa: B023 - called at once
                ask("search", lambda: service.search(f"a red apple {once}"))  # noqa: B023
            lines = "".join(
                f'{{"caption": "{row["caption"]}", "english": "{row["english"]}"}}\n' for row in pairs("cy")
            )
            files = {"dataset": ("d.jsonl", lines.encode())}
            for tag in ("cy", "br", "kw", "gd"):
                form: Any = {"data": {"language": tag, "confirmed": "true"}, "files": files}
                ask("language", lambda: service.admin.post("/v1/languages", **form))  # noqa: B023
        expansion = site.submit(pairs("cy"), epochs=1)
        taught = recorder.follow(lambda: run(attempt_at(site, expansion)))
    assert site.registry.expansions.get(expansion).state == "succeeded"
    site.close()
    trips["language"].files |= taught.files
    trips["language"].moves |= taught.moves
    return trips


@pytest.mark.parametrize("name", MOST)
def test_a_trip_leads_through_no_more_files_than_today(trips: dict[str, Trip], name: str) -> None:
    trip, (files, moves) = trips[name], MOST[name]
    assert len(trip.files) <= files, "\n".join(sorted(trip.files))
    assert len(trip.moves) <= moves, len(trip.moves)


def test_a_trip_is_followed_to_where_it_ends(trips: dict[str, Trip]) -> None:
    assert "service/routes/search.py" in trips["search"].files
    assert "service/routes/pictures.py" in trips["upload"].files
    assert {"service/routes/languages.py", "model/training.py"} <= trips["language"].files
