"""The command `import`: its options, its progress bar and what it says at the end."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer

from ..api import retry
from ..client import make_progress, open_service, read_answer
from ..output import FAILED, REFUSED, AsJson, errors, format_count, note, print_result, stop
from .folder import Folder
from .iiif import IiifManifest
from .items import SUFFIXES, Record, Source, SourceError, StateError, UnusableError, clean_tags, normalize_tag
from .manifest import NAME as MANIFEST
from .manifest import SUFFIXES as MANIFESTS
from .manifest import Manifest
from .report import Report
from .state import open_state
from .upload import Importer
from .watch import watch_folders

_AWAY = 503  # the status of a service whose registry does not answer

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Folders, pictures, manifests (.jsonl, .csv, .tsv), or IIIF manifests (.json or an address).",
    ),
]


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
        bool, typer.Option("--strict", help="Check every picture first, and stop at the first unusable one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    state: Annotated[
        Path | None, typer.Option(file_okay=False, help="The folder that remembers what was sent; else in your home.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import pictures; the path below the folder becomes the id.

    After an interruption or a change, run the same command again: only what is new is sent.

    Unusable files are listed at the end; everything else is in the gallery.
    """
    if watch and (as_json or dry_run or strict):
        stop("--watch goes neither with --json nor with --dry-run nor with --strict.", REFUSED)
    if not all(clean_tags([each]) for each in tag or ()):
        stop("--tag: a tag has 1 to 200 characters.", REFUSED)
    if caption_language is not None and normalize_tag(caption_language) is None:
        stop("--caption-language: not the tag of a registered language (BCP 47), such as `cy` or `pt-BR`.", REFUSED)
    report, record = Report(list_added=as_json), Record(collection, clean_tags(tag or []))
    try:
        sources = open_sources(paths, record, caption_language, root)
        if watch and not all(isinstance(source, Folder) and not source.is_partial for source in sources):
            stop("--watch is for folders.", REFUSED)
        with _open_importers(sources, collection, state, prefix, caption_language, again, dry_run, strict) as importers:
            if watch:
                watch_folders([(each, importer) for each, importer in importers if isinstance(each, Folder)], delete)
                return
            _bring_in(importers, report, delete, quiet=as_json)
    except (SourceError, StateError, UnusableError) as error:
        stop(str(error), FAILED if isinstance(error, StateError) else REFUSED)
    report.print_faults(dry_run, delete)
    print_result(report.as_json(), as_json, report.summarize(dry_run))
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
        limits = None
        if dry_run:
            bounds = client.get_limits()
            limits = bounds["picture_bytes"], bounds["picture_pixels"]
        address = str(client.base_url).rstrip("/")
        kept = [states.enter_context(open_state(state, address, f"{prefix}{source.name}")) for source in sources]
        options = (prefix, language, again, dry_run, strict, limits)
        yield [(source, Importer(client, known, *options)) for source, known in zip(sources, kept, strict=True)]


def _bring_in(importers: list[tuple[Source, Importer]], report: Report, delete: bool, *, quiet: bool) -> None:
    total = sum(
        importer.check_all(source.list_parts()) if importer.strict else source.count() for source, importer in importers
    )
    if total == 0 and not report.refused:
        stop("There is no picture here.", REFUSED)
    with make_progress(errors, quiet=quiet) as bar:
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
            note(f"{added}; the same command goes on with the rest.")
            raise


def open_sources(paths: Sequence[str], record: Record, language: str | None, root: Path | None) -> list[Source]:
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
        elif listed.is_file() and listed.name.lower().endswith(MANIFESTS):
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
