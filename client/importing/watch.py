"""Goes on with what changes in folders. A file is taken when nothing has changed at it for a moment."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import FrameType

import httpx

from ..api import StopError, read_problem
from ..output import format_count, note, say
from .folder import Folder
from .items import Item
from .report import Report
from .upload import Importer

SETTLED = 2.0  # seconds without a change after which a file is whole: programs write on within less
_LATER = (429, 500, 502, 503, 504, 507)  # what a service answers that is busy, full or not well: not of one picture
_BUSY_PAUSE = 15.0  # seconds until it is asked again
_LOOK = 500  # milliseconds between two looks at what has settled


class ChangedPlaces:
    """Places that changed, until nothing has changed at them for a while."""

    def __init__(self, seconds: float = SETTLED, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._changed: dict[str, float] = {}

    def add(self, places: Iterable[str]) -> None:
        """Note that something happened at these places."""
        self._changed |= dict.fromkeys(places, self._clock())

    def pop_settled(self) -> list[str]:
        """Return the places at which nothing happened since, each once."""
        until = self._clock() - self._seconds
        settled = sorted(place for place, since in self._changed.items() if since <= until)
        for place in settled:
            del self._changed[place]
        return settled

    def is_settled(self, item: Item) -> bool:
        """Whether the file's own time is long enough ago; otherwise it is taken later."""
        if item.stamp is not None and 0 <= time.time() - item.stamp.changed / 1e9 < self._seconds:
            self.add([item.place])
            return False
        return True


def watch_folders(folders: list[tuple[Folder, Importer]], delete: bool) -> None:
    """Bring in the folders, and then what is added, changed or removed in them, until Ctrl-C or SIGTERM."""
    import watchfiles

    with _catch_signals([importer.stopping for _, importer in folders]) as ended:
        watched = [WatchedFolder(folder, importer, delete, ended) for folder, importer in folders]
        looks = watchfiles.watch(
            *(each.folder.root for each in watched), watch_filter=None, stop_event=ended, step=50, debounce=_LOOK,
            rust_timeout=_LOOK, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
        )  # fmt: skip
        for changes in looks:  # the first comes when the watching has begun: nothing is missed
            for each in watched:
                each.look(Path(path) for _, path in changes)
    say("Stopped watching.")


class WatchedFolder:
    """A folder and what is to be done with it: all at the beginning and after a pause, then what has settled."""

    def __init__(self, folder: Folder, importer: Importer, delete: bool, ended: threading.Event) -> None:
        self.folder, self._importer, self._delete, self._ended = folder, importer, delete, ended
        self._changes = ChangedPlaces()
        self._whole = True  # has to be walked: at the beginning, and after the service was away
        self._away, self._not_before = False, 0.0

    def look(self, paths: Iterable[Path]) -> None:
        """Note that these paths changed, and bring in what has settled."""
        root = self.folder.root
        self._changes.add(path.relative_to(root).as_posix() for path in paths if root in path.parents)
        if self._ended.is_set() or time.monotonic() < self._not_before:
            return
        whole, self._whole = self._whole, False
        places = [] if whole else self._changes.pop_settled()
        if not whole and not places:
            return
        report = Report()
        self._importer.state.begin()
        parts = takewhile(
            lambda _: not self._ended.is_set(), self.folder.list_parts() if whole else self.folder.walk(places)
        )
        try:
            seen = self._importer.bring_in(parts, report, is_settled=self._changes.is_settled)
            # a folder that is empty of a sudden may be a disk that is away
            if seen and not self._ended.is_set() and (report.usable or not whole):
                self._importer.settle_vanished(report, self._delete, None if whole else places)
        except StopError:
            pass
        except httpx.TransportError:
            self._wait(places, whole, "The service does not answer; what changed waits for it.")
            return
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in _LATER:
                raise
            self._wait(places, whole, f"{read_problem(error.response)} What changed waits.", _BUSY_PAUSE)
            return
        self._away = False
        self._show(report, whole)

    def _wait(self, places: list[str], whole: bool, why: str, seconds: float = 0.0) -> None:
        if not self._away:
            note(why)
        self._away, self._whole = True, whole
        self._not_before = time.monotonic() + seconds
        if not self._ended.is_set():
            self._importer.stopping.clear()
        self._changes.add(places)

    def _show(self, report: Report, whole: bool) -> None:
        report.print_faults(False, self._delete)
        if self._ended.is_set():
            sent = f"{format_count(report.sent, 'picture was', 'pictures were')} sent until then"
            note(f"{sent}; the same command goes on with the rest.")
        elif whole:
            say(f"{report.summarize(False)} Watching {self.folder.root}; Ctrl-C ends it.")
        elif report.sent or report.vanished or report.refused or report.deleted_in_gallery:
            removed = f", {report.counts['deleted']:,} deleted" if report.counts["deleted"] else ""
            say(f"{report.counts['added']:,} added, {report.sum('replaced', 'changed'):,} changed{removed}.")


@contextmanager
def _catch_signals(stopping: list[threading.Event]) -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, and set `stopping` with it; neither breaks off what is being sent."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        for event in (ended, *stopping):
            event.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
