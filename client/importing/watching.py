"""Goes on with what changes in folders. A file is taken when nothing has changed at it for a moment."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx

from ..client import Stopped, sentence
from ..output import counted, note, say, were
from .folder import Folder
from .items import Item, Left
from .report import Report, told
from .run import Run

SETTLED = 2.0  # seconds without a change after which a file is whole: programs write on within less
_LATER = (429, 500, 502, 503, 504, 507)  # what a service answers that is busy, full or not well: not of one picture
_BUSY_PAUSE = 15.0  # seconds until it is asked again
_LOOK = 500  # milliseconds between two looks at what has settled


class Settling:
    """Places that changed, until nothing has changed at them for a while."""

    def __init__(self, seconds: float = SETTLED, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._changed: dict[str, float] = {}

    def changed(self, places: Iterable[str]) -> None:
        """Something happened at these places."""
        self._changed |= dict.fromkeys(places, self._clock())

    def settled(self) -> list[str]:
        """The places that nothing happened at since; they are told once."""
        until = self._clock() - self._seconds
        settled = sorted(place for place, since in self._changed.items() if since <= until)
        for place in settled:
            del self._changed[place]
        return settled

    def is_settled(self, item: Item) -> bool:
        """Whether the file's own time is long enough ago; otherwise it is taken later."""
        if item.stamp is not None and 0 <= time.time() - item.stamp.changed / 1e9 < self._seconds:
            self.changed([item.place])
            return False
        return True


def watch(folders: list[tuple[Folder, Run]], delete: bool) -> None:
    """Bring in the folders, and then what is added, changed or removed in them, until Ctrl-C or SIGTERM."""
    import watchfiles

    with _until_signalled([run.intake.stopping for _, run in folders]) as ended:
        watched = [_Watched(folder, run, delete, ended) for folder, run in folders]
        looks = watchfiles.watch(
            *(each.folder.root for each in watched), watch_filter=None, stop_event=ended, step=50, debounce=_LOOK,
            rust_timeout=_LOOK, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
        )  # fmt: skip
        for changes in looks:  # the first comes when the watching has begun: nothing is missed
            for each in watched:
                each.look(Path(path) for _, path in changes)
    say("Stopped watching.")


class _Watched:
    """One folder."""

    def __init__(self, folder: Folder, run: Run, delete: bool, ended: threading.Event) -> None:
        self._ended = ended
        self.folder, self._delete = folder, delete
        self._settling = Settling()
        self._intake, self._prefix = run.intake, run.prefix
        self._whole = True  # has to be walked: at the beginning, and after the service was away
        self._away, self._not_before = False, 0.0

    def look(self, paths: Iterable[Path]) -> None:
        self._settling.changed(self._places(paths))
        if self._ended.is_set() or time.monotonic() < self._not_before:
            return
        whole, self._whole = self._whole, False
        places = [] if whole else self._settling.settled()
        if not whole and not places:
            return
        report = Report()
        run = Run(self._intake, report, self._prefix, is_settled=self._settling.is_settled)
        self._intake.state.begin()
        try:
            seen = run.over(self._until_ended(self.folder.parts() if whole else self.folder.some(places)))
            if (
                seen and not self._ended.is_set() and (report.usable or not whole)
            ):  # a folder that is empty of a sudden may be a disk that is away
                run.vanished(self._delete, None if whole else places)
        except Stopped:
            pass
        except httpx.TransportError:
            self._wait(places, whole, "The service does not answer; what changed waits for it.")
            return
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in _LATER:
                raise
            self._wait(places, whole, f"{sentence(error.response)} What changed waits.", _BUSY_PAUSE)
            return
        self._away = False
        self._tell(report, whole)

    def _until_ended(self, parts: Iterable[Item | Left]) -> Iterator[Item | Left]:
        for part in parts:
            if self._ended.is_set():
                return
            yield part

    def _wait(self, places: list[str], whole: bool, why: str, seconds: float = 0.0) -> None:
        if not self._away:
            note(why)
        self._away, self._whole = True, whole
        self._not_before = time.monotonic() + seconds
        if not self._ended.is_set():
            self._intake.stopping.clear()
        self._settling.changed(places)

    def _tell(self, report: Report, whole: bool) -> None:
        told(report, False, self._delete)
        if self._ended.is_set():
            sent = f"{counted(report.sent, 'picture')} {were(report.sent)} sent until then"
            note(f"{sent}; the same command goes on with the rest.")
        elif whole:
            say(f"{report.sentence(False)} Watching {self.folder.root}; Ctrl-C ends it.")
        elif report.sent or report.vanished or report.refused or report.gone:
            removed = f", {report.counts['deleted']:,} deleted" if report.counts["deleted"] else ""
            changed = report.counts["replaced"] + report.counts["changed"]
            say(f"{report.counts['added']:,} added, {changed:,} changed{removed}.")

    def _places(self, paths: Iterable[Path]) -> Iterator[str]:
        for path in paths:
            if path.is_relative_to(self.folder.root):
                place = path.relative_to(self.folder.root).as_posix()
                if place != ".":
                    yield place


@contextmanager
def _until_signalled(stopping: list[threading.Event]) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM set, and `stopping` with it. Meanwhile, they break nothing off that is sent."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()
        for each in stopping:
            each.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
