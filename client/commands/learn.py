"""`learn`, `assess`: send a dataset to the service, or say what a dry run found. `language`: as a file, out and in."""

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Annotated, Any

import typer

from ..api import Client
from ..terminal import (
    FILE,
    REFUSED,
    JsonCommand,
    Yes,
    answer,
    build_path,
    console,
    errors,
    format_count,
    format_lines,
    format_row,
    format_size,
    list_faults,
    may_ask,
    open_service,
    say,
    stop,
    warn,
)
from .export import download
from .languages import FEW, conclude, watch_expansion
from .versions import Tag, TermsFile, read_terms, summarize_terms

WithoutMissing = Annotated[
    bool, typer.Option("--without-missing", help="Leave out pictures that are not in the gallery.")
]
Captions = Annotated[
    bool, typer.Option("--captions", help="In place of FILE: the pictures' captions in this language.")
]
Swap = Annotated[bool, typer.Option("--swap", help="Swap the columns: what stands for captions are the texts.")]
Force = Annotated[bool, typer.Option("--force", help="Serve the language even if it is read worse than before.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check the file.")]
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
language = typer.Typer(help="Take a taught language elsewhere: as a file, and from one.", no_args_is_help=True)


def learn(
    tag: Tag,
    file: Annotated[
        Path | None,
        typer.Argument(help="Dataset: a spreadsheet, CSV, JSON lines …", **FILE),
    ] = None,
    dictionary: Annotated[
        Path | None,
        typer.Option(
            help="A dictionary in place of FILE: two columns, also of a spreadsheet, DICT (its .index), StarDict (its "
            ".ifo), FreeDict TEI, Wiktextract, WordNet LMF, CLDR annotations.",
            **FILE,
        ),
    ] = None,
    pivot: Annotated[str | None, typer.Option(help="Language of the dictionary's glosses, if not English.")] = None,
    english: Annotated[
        Path | None, typer.Option(help="The same file of English, for a WordNet or CLDR annotations.", **FILE)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the progress until it ends.")] = False,
    dry_run: DryRun = False,
    settings: Annotated[str, typer.Option(help='Training settings as JSON, such as {"epochs": 5}.')] = "",
    force: Force = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Use only this dataset; discard the earlier ones.")
    ] = False,
    without_missing: WithoutMissing = False,
    captions: Captions = False,
    swap: Swap = False,
    terms: TermsFile = None,
    yes: Yes = False,
) -> None:
    """Teach a language from a dataset or a dictionary, together with its earlier datasets."""
    form: dict[str, Any] = {"language": tag, "settings": settings or None, "force": force, "replace": replace}
    form |= {"without_missing": without_missing, "confirmed": yes, "captions": captions, "swap": swap}
    form |= {} if terms is None else {"terms": json.dumps(read_terms(terms), ensure_ascii=False)}
    asks = not dry_run and may_ask(yes)
    if captions and not (file or dictionary or pivot or english):
        _submit(form, "The captions", None, watch=watch, dry_run=dry_run, asks=asks)
    elif dictionary is None and file is not None and not captions:
        if pivot or english:
            stop("--pivot and --english belong to --dictionary.", REFUSED)
        with file.open("rb") as stream:
            _submit(form, file.name, stream, watch=watch, dry_run=dry_run, asks=asks)
    elif dictionary is not None and file is None and not captions:
        form |= {"kind": "dictionary", "pivot": pivot or None}
        with _pack_dictionary(dictionary, tag, english) as stream:
            _submit(form, dictionary.name, stream, watch=watch, dry_run=dry_run, asks=asks)
    else:
        stop("Give one file, a dataset, or a dictionary as `--dictionary FILE`; or --captions.", REFUSED)


@contextmanager
def _pack_dictionary(file: Path, tag: str, english: Path | None) -> Iterator[IO[bytes]]:
    """Open the entries of a dictionary, packed as they are sent; exits if it cannot be read."""
    from ..dictionaries import write_dictionary  # late: help needs no formats
    from ..dictionaries.lines import DictionaryError

    if file.suffix.lower() in _SPREADSHEETS and english is None:  # which the service reads itself
        with file.open("rb") as stream:
            yield stream
        return
    with TemporaryFile() as packed:
        try:
            with (
                errors.status(f"Reading {file.name} …"),
                # Neither time nor name: the same dictionary has the same digest, by which the service knows it.
                gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as target,
            ):
                write_dictionary(file, tag, english, target)
        except DictionaryError as error:
            stop(str(error), REFUSED)
        packed.seek(0)
        yield packed


def assess(
    tag: Tag,
    file: Annotated[Path, typer.Argument(help="Dataset, as for `learn`.", **FILE)],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Wait for the result.")] = False,
    dry_run: DryRun = False,
    without_missing: WithoutMissing = False,
) -> None:
    """Measure how well a language is read already; teach nothing."""
    form = {"language": tag, "assess": True, "without_missing": without_missing}
    with file.open("rb") as stream:
        _submit(form, file.name, stream, watch=watch, dry_run=dry_run)


def _submit(
    form: Any,
    name: str,
    stream: IO[bytes] | None,
    *,
    watch: bool,
    dry_run: bool,
    asks: bool = False,
) -> None:
    """Send a dataset, after questions about its rows and its terms if some may be asked; show what came of it.

    Without a `stream`, the dataset is made by the service.
    """
    form = form if stream is None else {**form, "dataset": (name, stream)}
    with open_service(upload=True) as client:
        if dry_run:
            checked: Any = client.teach_language(form | {"dry_run": True})
            lines = (*_summarize(checked, name, "assess" in form), *_list_sample(checked))
            answer(checked, "\n".join(lines))
            return
        if asks:
            form = _confirm_rows(client, form) if stream is not None else form
            form |= {} if "terms" in form else _ask_terms(client, form["language"])
        accepted: Any = client.teach_language(form)
        if waiting := accepted.get("waiting"):
            answer(accepted, _describe_waiting(waiting, form["language"]))
            return
        expansion: dict[str, Any] = accepted["expansion"]
        if watch:
            try:
                expansion = watch_expansion(client, expansion)
            except KeyboardInterrupt:
                again = f"pictoglot expansions {expansion['id']}"
                warn(f"It goes on without you: `{again} --watch` shows it again, `{again} --cancel` ends it.")
                raise
    conclude(expansion, watch)


def _confirm_rows(client: Client, form: Any) -> Any:
    """Return the form that a person says is right, perhaps with its columns swapped; exits when nothing is."""
    while True:
        checked: Any = client.teach_language(form | {"dry_run": True})
        say("\n".join(_list_sample(checked)))
        is_doubted = any(doubt["code"] == "columns_swapped" for doubt in checked["doubts"])
        reply = typer.prompt(f"Is that right? [y/N{'/swap' if is_doubted else ''}]", "n", show_default=False)
        if reply.strip().lower() in ("y", "yes"):
            return form | {"confirmed": True}
        if reply.strip().lower() != "swap":
            raise typer.Exit
        form = form | {"swap": not form.get("swap", False)}


def _ask_terms(client: Client, tag: str) -> dict[str, str]:
    """Return the terms that a person says, as a field of the form; none for a language that has some already."""
    known = client.get(build_path("/v1/languages", tag))
    if known.is_success and known.json()["terms"]:
        return {}
    say(f"{_name_language(tag)} has no terms yet. An empty line leaves one out.")
    questions = {"owner": "Whose language is it", "licence": "What is allowed with it", "contact": "Whom to ask"}
    terms = dict[str, str]()
    with suppress(EOFError):
        for name, question in questions.items():
            terms[name] = console.input(f"{question} ({name})? ").strip()
    terms = {name: text for name, text in terms.items() if text}
    return {"terms": json.dumps(terms, ensure_ascii=False)} if terms else {}


def _describe_waiting(waiting: Mapping[str, int], tag: str) -> str:
    rows, needed = waiting["rows"], waiting["needed"]
    kept = "row is kept" if rows == 1 else "rows are kept"
    return (
        f"{rows} of {needed} {kept}: {needed - rows} more of {_name_language(tag)} and it is taught. "
        "The next file joins them."
    )


def _list_sample(checked: Mapping[str, Any]) -> Iterator[str]:
    """Yield the first rows, and what may be wrong with them."""
    sample = checked["sample"]
    other = next((row["language"] for row in sample if row["language"]), None)
    yield f"The first rows, {_name_language(checked['language'])} | {_name_language(other) if other else 'a picture'}:"
    yield from (f"  {format_row(row)}" for row in sample)
    for doubt in checked["doubts"]:
        yield f"{doubt['detail'][0].upper()}{doubt['detail'][1:]}:"
        yield from (f"  {format_row(row)}" for row in doubt["rows"])


def _summarize(checked: Mapping[str, Any], file: str, assess: bool) -> Iterator[str]:
    """Yield lines about a file that was accepted: what is in it, what it is used for, and what is left out."""
    language, report = _name_language(checked["language"]), checked["report"]
    rows, usable, val = report["rows"], report["usable"], report["val"]
    does, did = ("assess", "measured") if assess else ("teach", "taught")
    yield f"{file} can be used to {does} {language}. This was a dry run: nothing was {did}."
    yield ""
    if waiting := checked.get("waiting"):
        yield f"{waiting['rows']} of the {waiting['needed']} rows that teaching needs; they would be kept until then."
    if found := report.get("dictionary"):
        taken = f"{found['taken']:,} {'is' if found['taken'] == 1 else 'are'} taken"
        yield f"A dictionary of {format_count(found['entries'], 'entry', 'entries')}, of which {taken}:"
    else:
        of = "" if usable == rows else f", of which {usable:,} can be used"
        yield f"{report['format'].upper().replace('SPREADSHEET', 'Spreadsheet')}, {format_count(rows, 'row')}{of}:"
    yield f"  {format_count(usable, 'word' if found else 'caption')}{_describe_pairs(report)}"
    if count := report.get("by_file"):
        name = "names its picture by its file" if count == 1 else "name their pictures by their files"
        yield f"  {count:,} {name}: `a.jpg` is taken for the id `a`"
    train = f"{report['train']:,} to learn from, {val:,} held out to measure what was learned"
    if more := report["taught"] - report["train"]:
        train += f"; then {'they' if more == val else f'{more:,} of them'} are taught, too"
    yield f"  {val:,} held out and measured" if assess else f"  {train}"
    if 0 < val < FEW:
        yield f"  That is few to measure with: one caption counts {100 / val:.0f} points. More rows hold out more."
    if (share := report["in_script"]) is not None and share < 1:
        yield f"  {min(100 * share, 99.9):.1f} % in the script of this language; check whether the others belong here"
    yield from _list_words(found) if found else ()
    yield from _list_omissions(report)
    for name in ("joined", "replaced"):
        if earlier := checked.get(name):
            captions, datasets = earlier["rows"], earlier["datasets"]
            before = f"{format_count(captions, 'caption')} of {format_count(datasets, 'earlier dataset')}"
            if name == "joined":
                yield f"{language} is also taught from {before}; duplicates count once. `--replace` leaves them out."
            else:
                yield f"It replaces {before}: then only the captions of this file are taught and shown."


def _name_language(tag: str) -> str:
    import langcodes  # late: help needs no languages

    return f"{langcodes.Language.get(tag).display_name('en')} ({tag})"


def _describe_pairs(report: Mapping[str, Any]) -> str:
    """Return with what the captions are paired."""
    parts = [(count, f"a text in {_name_language(tag)}") for tag, count in report["pivots"].items()]
    if count := report["with_picture"]:
        parts.append((count, f"a picture of the gallery ({format_count(report['pictures'], 'picture')} in all)"))
    return "".join(f", {'each' if count == report['usable'] else f'{count:,}'} with {what}" for count, what in parts)


def _list_words(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield examples of what a dictionary teaches, and why entries are left out."""
    if examples := found["examples"]:
        yield "For example:"
        yield from (f"  {example['word']} – {example['gloss']}" for example in examples)
    if total := sum(found["left_out"].values()):
        yield f"{format_count(total, 'entry is', 'entries are')} left out:"
        yield from (f"  {count:,} {found['reasons'][code]}" for code, count in found["left_out"].items())


def _list_omissions(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield repetitions, and what is wrong in which lines."""
    if count := report.get("missing"):
        names = "names a picture that is" if count == 1 else "name pictures that are"
        yield f"{format_count(count, 'row')} {names} not in the gallery, and count only if they have another text."
    if count := report.get("unanswered"):
        yield f"{format_count(count, 'word is', 'words are')} not answered yet and left out."
    if count := report["duplicates"]:
        does = "repeats an earlier one and counts" if count == 1 else "repeat earlier ones and count"
        yield f"{format_count(count, 'row')} {does} once: {format_lines(report['first_duplicates'], count)}."
    if total := sum(fault["count"] for fault in report["faults"].values()):
        yield f"{format_count(total, 'row')} cannot be used and {'is' if total == 1 else 'are'} left out:"
        yield from (f"  {line}" for line in list_faults({"report": report}))


@language.command("export", cls=JsonCommand)
def export_language(
    tag: Tag,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="The file; by default TAG.pictoglot.")
    ] = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign it with the key of the service's data root.")] = False,
) -> None:
    """Write a taught language as a file; it needs an admin key, since the file holds texts of its dataset."""
    file = out or Path(f"{tag}.pictoglot")
    with open_service(upload=True) as client:
        download(client, f"{build_path('/v1/languages', tag)}/file?sign={'true' if sign else 'false'}", file)
    size = file.stat().st_size
    answer({"file": str(file), "bytes": size, "language": tag}, f"{file}, {format_size(size)}.")


@language.command("import", cls=JsonCommand)
def import_language(
    file: Annotated[Path, typer.Argument(help="A file of `export`.", **FILE)],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the progress until it ends.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is in the file.")] = False,
    force: Force = False,
) -> None:
    """Import a language from a file: it is measured here, and served if it passes the gate."""
    with open_service(upload=True) as client, file.open("rb") as stream:
        done: Any = client.import_language({"file": (file.name, stream), "dry_run": dry_run, "force": force})
        if dry_run:
            answer(done)
            _show(done)
            return
        expansion: dict[str, Any] = done["expansion"]
        if watch:
            expansion = watch_expansion(client, expansion)
    conclude(expansion, watch)


def _show(item: dict[str, Any]) -> None:
    about = f"{item['rows']:,} rows for base {item['base']}, {item['learned_at'][:10]}"
    say(f"{item['name']} ({item['language']}), {about}.")
    if item["recall"] is not None:
        say(f"Where it was taught, R@10 of {item['pairs']:,} held-out captions is {100 * item['recall']:.1f} %.")
    say(f"Terms: {summarize_terms(item['terms'])}" if item["terms"] else "Nothing is said of its terms.")
    say(f"Signed with the key {item['signer']}; ask whoever gave it to you whether that is theirs." if item["signer"]
        else "Nobody signed it.")  # fmt: skip
