"""The command `import`: its options, its progress bar and what it tells at the end."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer

from ..client import answer, progress, service
from ..output import FAILED, REFUSED, AsJson, are, counted, errors, note, stop, tell, were
from . import watching
from .folder import Captions, Folder
from .iiif import Iiif
from .intake import Intake
from .items import (
    SUFFIXES,
    Item,
    Left,
    Said,
    Source,
    SourceFault,
    Unreadable,
    is_json,
    normalize_tag,
    not_a_collection,
    tags_of,
)
from .manifest import NAME as MANIFEST
from .manifest import SUFFIXES as MANIFESTS
from .manifest import Manifest
from .report import Report, few, told
from .run import Refused, Run, checked
from .state import StateFault, opened


def import_pictures(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Folders, pictures, manifests (.jsonl, .csv, .tsv), or IIIF manifests.",
        ),
    ],
    collection: Annotated[str | None, typer.Option(help="The collection that they go to.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of all of them; may be repeated.")] = None,
    captions: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help='JSON: {"file name or id": {"en": ["a red apple"]}}.'),
    ] = None,
    caption_language: Annotated[
        str | None, typer.Option(help="Titles and descriptions in the files are captions in this language (a tag).")
    ] = None,
    prefix: Annotated[str, typer.Option(help="What all ids begin with, such as `holidays/`.")] = "",
    root: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where the files of a manifest are.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete from the gallery what vanished here.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with what changes, until Ctrl-C.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send also the pictures that are there already.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End at the first that cannot be used; look before sending.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    state: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where it is kept what was sent; by default your state folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring pictures into the gallery; the path below the folder becomes the id. The service decodes them.

    What is there already is not sent: after an interruption, or when files were added or changed, the same command
    goes on with the rest. What cannot be used is told at the end, and everything else is in the gallery.
    """
    if watch and (as_json or dry_run or strict):
        stop("--watch goes neither with --json nor with --dry-run nor with --strict.", REFUSED)
    said, report = _said(collection, tag or [], caption_language), Report(whole=as_json)
    try:
        captioned = _captions(captions)
        given = open_sources(paths, said, caption_language, root, captioned)
        if captions is not None and not all(isinstance(source, Folder) for source in given):
            stop("--captions is for folders and pictures: other sources say their own.", REFUSED)
        if watch and not all(isinstance(source, Folder) and not source.is_partial for source in given):
            stop("--watch is for folders.", REFUSED)
        how = (again, dry_run, caption_language)
        if not _import(given, how, state, prefix, report, strict=strict, watch=watch, delete=delete, quiet=as_json):
            return
    except (SourceFault, Refused) as fault:
        stop(f"{fault}" + (" With --strict, this ends it." if isinstance(fault, Refused) else ""), REFUSED)
    except StateFault as fault:
        stop(str(fault), FAILED)
    told(report, dry_run, delete)
    _unused(captioned, given)
    tell(report.document(), as_json, report.sentence(dry_run))
    if report.counts["refused"]:
        raise typer.Exit(FAILED)


def _said(collection: str | None, tags: list[str], caption_language: str | None) -> Said:
    """What the options say of every picture; exits when the service would refuse each for it."""
    if collection is not None and (fault := not_a_collection(collection)) is not None:
        stop(f"--collection: {fault}", REFUSED)
    if not all(tags_of([tag]) for tag in tags):
        stop("--tag: a tag has 1 to 200 characters.", REFUSED)
    if caption_language is not None and normalize_tag(caption_language) is None:
        stop("--caption-language: not the tag of a registered language (BCP 47), such as `cy` or `pt-BR`.", REFUSED)
    return Said(collection, tags_of(tags))


def _import(
    given: list[Source],
    how: tuple[bool, bool, str | None],
    state: Path | None,
    prefix: str,
    report: Report,
    *,
    strict: bool,
    watch: bool,
    delete: bool,
    quiet: bool,
) -> bool:
    """Whether there is something to tell at the end: a watch tells as it goes. `how` is the rest of an `Intake`."""
    with service(upload=True) as client, ExitStack() as open_states:
        answer(client.get("/v1/pictures", params={"limit": 1}))  # a service that is not there is told at once
        address = str(client.base_url).rstrip("/")
        runs = []
        for source in given:
            kept = open_states.enter_context(opened(state, address, f"{prefix}{source.name}"))
            runs.append((source, Run(Intake(client, kept, *how), report, prefix, strict)))
        if watch:
            watching.watch([(source, run) for source, run in runs if isinstance(source, Folder)], delete)
        else:
            _bring_in(runs, report, delete, quiet=quiet)
    return not watch


def _captions(file: Path | None) -> Captions:
    if file is None:
        return {}
    try:
        captions = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError:  # also when it is not UTF-8
        captions = None
    if not isinstance(captions, dict) or not all(isinstance(each, dict) for each in captions.values()):
        stop('The file of captions is no JSON such as {"file name or id": {"en": ["a red apple"]}}.', REFUSED)
    several = {
        name: {tag: [texts] if isinstance(texts, str) else texts for tag, texts in each.items()}
        for name, each in captions.items()
    }
    lists = [texts for each in several.values() for texts in each.values()]
    if not is_json(several) or not all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists
    ):
        stop("The file of captions has something else than texts in a language.", REFUSED)
    return several


def _unused(captions: Captions, given: list[Source]) -> None:
    if unused := captions.keys() - {name for each in given if isinstance(each, Folder) for name in each.captioned}:
        names = counted(len(unused), "name")
        note(f"{names} in the file of captions {are(len(unused))} of no picture here: {few(sorted(unused))}")


def _bring_in(runs: list[tuple[Source, Run]], report: Report, delete: bool, *, quiet: bool) -> None:
    total = _checked(runs)
    if total == 0 and not report.refused:
        stop("There is no picture here.", REFUSED)
    with _bar(total, quiet) as advance:
        try:
            for source, run in runs:
                before = report.usable
                run = Run(run.intake, report, run.prefix, run.strict, advance)
                if not run.over(source.parts()) or is_partial(source):
                    continue
                if report.usable == before and delete:
                    told(report, run.intake.dry_run, delete)
                    stop(f"There is no picture in {source.name} any more: nothing is deleted.", REFUSED)
                run.vanished(delete)
        except (KeyboardInterrupt, SystemExit, httpx.HTTPError, Refused):
            sent = sum(run.intake.sent.total() for _, run in runs)
            note(f"{counted(sent, 'picture')} {were(sent)} added until then; the same command goes on with the rest.")
            raise


def _checked(runs: list[tuple[Source, Run]]) -> int:
    """How many items there are; with `strict`, raises `Refused` before anything is sent."""
    total = 0
    for source, run in runs:
        if not run.strict:
            count = source.count()
        else:
            count = 0
            ids: dict[str, str] = {}
            for part in source.parts():
                _require(part, ids, run.prefix)
                count += isinstance(part, Item)
        total += count
    return total


def _require(part: Item | Left, ids: dict[str, str], prefix: str) -> None:
    if isinstance(part, Left):
        if part.is_fault:
            raise Refused(f"{part.place}: {part.reason}")
        return
    try:
        checked(part, prefix)
    except Unreadable as fault:
        raise Refused(f"{part.shown or part.place}: {fault.reason}") from None
    if not any(ids.setdefault(id, part.place) == part.place for id in (part.id, part.twin) if id):
        raise Refused(f"{part.shown or part.place}: {ids[part.id]} has the same id.")


@contextmanager
def _bar(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    with progress(errors, quiet=quiet or not errors.is_terminal) as bar:
        task = bar.add_task("Pictures", total=total)
        yield lambda: bar.advance(task)


def open_sources(
    given: Sequence[str], said: Said, language: str | None, root: Path | None, captions: Captions | None = None
) -> list[Source]:
    """The sources that these arguments are; pictures in one folder are one. Raises `SourceFault`."""
    found: list[Source] = []
    alone: dict[Path, set[str]] = {}
    for each in given:
        path = Path(each)
        name = path.name.lower()
        if each.startswith(("http://", "https://")):
            found.append(Iiif(each, said, language))
        elif path.is_dir():
            listed = path / MANIFEST
            found.append(Manifest(listed, said, root, language) if listed.is_file() else Folder(path, said, captions))
        elif not path.exists():
            raise SourceFault(f"{each} does not exist.")
        elif name.endswith(MANIFESTS):
            found.append(Manifest(path, said, root, language))
        elif name.endswith(".json"):
            found.append(Iiif(str(path.resolve()), said, language))
        elif path.suffix.lower() in SUFFIXES:
            alone.setdefault(path.parent.resolve(), set()).add(path.name)
        else:
            raise SourceFault(
                f"{each} is nothing that can be imported: a folder, a picture, a manifest (.jsonl, .csv, .tsv), or a "
                "IIIF manifest (.json or its address)."
            )
    return [*found, *(Folder(parent, said, captions, names) for parent, names in alone.items())]


def is_partial(source: Source) -> bool:
    """Whether what it does not show may still be there."""
    return isinstance(source, Folder) and source.is_partial
