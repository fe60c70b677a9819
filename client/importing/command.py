"""The command `import`: its options, progress bar and last words; and what goes on with changes in folders (`--watch`).

A file is taken when nothing has changed at it for a moment.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer

from ..api import StopError, read_problem, retry
from ..terminal import (
    FAILED,
    REFUSED,
    answer,
    errors,
    format_count,
    is_json_wanted,
    make_progress,
    note,
    open_service,
    read_answer,
    say,
    stop,
    warn,
)
from . import SUFFIXES, Item, Source, SourceError, SourceRecord, StateError, UnusableError, clean_tags, normalize_tag
from .files import MANIFEST_SUFFIXES, Folder, Manifest
from .files import NAME as MANIFEST
from .iiif import IiifManifest
from .journal import Report, open_state
from .upload import Importer

_AWAY = 503  # the status of a service whose registry does not answer

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Folders, pictures, manifests (.jsonl, .csv, .tsv), or IIIF manifests (.json or an address).",
    ),
]
SETTLED = 2.0  # seconds without a change after which a file is whole: programs write on within less
_LATER = (429, 500, 502, 503, 504, 507)  # what a service answers that is busy, full or not well: not of one picture
_BUSY_PAUSE = 15.0  # seconds until it is asked again
_LOOK = 500  # milliseconds between two looks at what has settled


def import_pictures(
    paths: Paths,
    collection: Annotated[str | None, typer.Option(help="The collection of these pictures.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of these pictures; may be repeated.")] = None,
    caption_language: Annotated[
        str | None, typer.Option(help="Language of titles and descriptions in the files; they become captions.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="The beginning of every id, such as `holidays/`.")] = "",
    root: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="The folder with the files of a manifest.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Also delete gallery pictures whose source file is gone.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what changes, until Ctrl-C.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also send pictures that are in the gallery already.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Check all names and rows first, and stop at the first picture that cannot be used."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    state: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder that remembers what was sent; else in your home.")
    ] = None,
) -> None:
    """Import pictures; the path below the folder becomes the id.

    After an interruption or a change, run the same command again: only what is new is sent.

    Unusable files are listed at the end; everything else is in the gallery.
    """
    if watch and (is_json_wanted() or dry_run or strict):
        stop("--watch goes neither with --json nor with --dry-run nor with --strict.", REFUSED)
    if not all(clean_tags([each]) for each in tag or ()):
        stop("--tag: a tag has 1 to 200 characters.", REFUSED)
    if caption_language is not None and normalize_tag(caption_language) is None:
        stop("--caption-language: not the tag of a registered language (BCP 47), such as `cy` or `pt-BR`.", REFUSED)
    report, record = Report(list_added=is_json_wanted()), SourceRecord(collection, clean_tags(tag or []))
    try:
        sources = open_sources(paths, record, caption_language, root)
        if watch and not all(isinstance(source, Folder) and not source.is_partial for source in sources):
            stop("--watch is for folders.", REFUSED)
        with _open_importers(sources, collection, state, prefix, caption_language, again, dry_run, strict) as importers:
            if watch:
                watch_folders([(each, importer) for each, importer in importers if isinstance(each, Folder)], delete)
                return
            _bring_in(importers, report, delete)
    except (SourceError, StateError, UnusableError) as error:
        stop(str(error), FAILED if isinstance(error, StateError) else REFUSED)
    report.print_faults(dry_run, delete)
    answer(report.as_json(), report.summarize(dry_run))
    if report.counts["refused"]:
        raise typer.Exit(FAILED)


@contextmanager
def _open_importers(
    sources: Sequence[Source],
    collection: str | None,
    state: Path | None,
    prefix: str,
    language: str | None,
    again: bool,
    dry_run: bool,
    strict: bool,
) -> Iterator[list[tuple[Source, Importer]]]:
    """Connect each source with the service, for which a minute is waited when it is not well."""
    with open_service(upload=True) as client, ExitStack() as states:
        # a service that is not there, or a collection that cannot be, is reported once and at once
        named = {"collection": collection} if collection is not None else {}
        ask = partial(client.get, "/v1/pictures", params={"limit": "1", **named})
        read_answer(response if (response := ask()).status_code != _AWAY else retry(ask))
        bounds = client.get_limits() if dry_run else None
        limits = bounds and (bounds["picture_bytes"], bounds["picture_pixels"])
        address = str(client.base_url).rstrip("/")
        kept = [states.enter_context(open_state(state, address, f"{prefix}{source.name}")) for source in sources]
        options = (prefix, language, again, dry_run, strict, limits)
        yield [(source, Importer(client, known, *options)) for source, known in zip(sources, kept, strict=True)]


def _bring_in(importers: list[tuple[Source, Importer]], report: Report, delete: bool) -> None:
    total = sum(
        importer.check_all(source.list_parts()) if importer.strict else source.count() for source, importer in importers
    )
    if total == 0 and not report.refused:
        stop("There is no picture here.", REFUSED)
    with make_progress(errors) as bar:
        task = bar.add_task("Pictures", total=total)
        try:
            for source, importer in importers:
                before = report.usable
                if not importer.bring_in(source.list_parts(), report, partial(bar.advance, task)) or source.is_partial:
                    continue
                if report.usable == before and delete:
                    report.print_faults(importer.dry_run, delete)
                    stop(f"There is no picture in {source.name} any more: nothing is deleted.", REFUSED)
                importer.settle_vanished(report, delete)
        except (KeyboardInterrupt, SystemExit, httpx.HTTPError, UnusableError):
            sent = sum(importer.sent.total() for _, importer in importers)
            added = f"{format_count(sent, 'picture was', 'pictures were')} added until then"
            warn(f"{added}; the same command goes on with the rest.")
            raise


def open_sources(paths: Sequence[str], record: SourceRecord, language: str | None, root: Path | None) -> list[Source]:
    """Return the sources that these arguments are; pictures in one folder are one. Raises `SourceError`."""
    found: list[Source] = []
    alone: dict[Path, set[str]] = {}
    for each in paths:
        path = Path(each)
        name = path.name.lower()
        listed = path / MANIFEST if path.is_dir() else path
        if each.startswith(("http://", "https://")):
            found.append(IiifManifest(each, record, language))
        elif not path.exists():
            raise SourceError(f"{each} does not exist.")
        elif listed.is_file() and listed.name.lower().endswith(MANIFEST_SUFFIXES):
            found.append(Manifest(listed, record, root, language))
        elif path.is_dir():
            found.append(Folder(path, record))
        elif name.endswith(".json"):
            found.append(IiifManifest(str(path.resolve()), record, language))
        elif path.suffix.lower() in SUFFIXES:
            alone.setdefault(path.parent.resolve(), set()).add(path.name)
        else:
            raise SourceError(
                f"{each} cannot be imported: give a folder, a picture, a manifest (.jsonl, .csv, .tsv), or a IIIF "
                "manifest (.json or its address)."
            )
    return [*found, *(Folder(parent, record, names) for parent, names in alone.items())]


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
