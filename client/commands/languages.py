"""`languages`, `words`, `expansions`: what is known, what is asked for, and what the worker does or did."""

import csv
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ..api import ENDED, PATIENCE, Client
from ..terminal import (
    FAILED,
    REFUSED,
    Limit,
    answer,
    errors,
    format_count,
    format_recall,
    format_share,
    is_json_wanted,
    note,
    open_service,
    print_table,
    say,
    stop,
    warn,
)
from .admin import show_move
from .versions import Tag, summarize_terms

FEW = 20  # held-out captions, of which a single one is 5 points
_WORD_COLUMNS = ("english", "caption", "pictures")
_MISSED = 10  # test words that are named
_FORMULA = re.compile(r"^[=+\-@]")  # a spreadsheet would run an id that begins so
_PATIENCE = 60.0  # seconds without an event until watching ends


def list_languages() -> None:
    """List languages that are taught, built into the base or assessed, with versions and R@1."""
    with open_service() as client:
        listing: Any = client.list_languages()
    items = listing["items"]
    is_assessed, few = any(item["assessed"] for item in items), list[str]()
    rows = []
    for item in items:
        reports = [item["report"] or {}, item["assessed"] or {}]
        enough = [report if (report.get("pairs") or FEW) >= FEW else {} for report in reports]
        few += [item["language"]] if enough != reports else []
        known = [name.replace("_", " ") for name in ("taught", "built_in", "assessed") if item[name]]
        name = " · ".join(dict.fromkeys((item["name"], item["native_name"])))
        row = [item["language"], name, ", ".join(known), item["version"], item["captions"]]
        row += [format_recall(enough[0], direction) for direction in ("t2i", "i2t")]
        rows.append(row + ([format_recall(enough[1], "t2i", 10)] if is_assessed else []))
    columns = ["tag", "name", "status", "version", "captions", "t2i R@1", "i2t R@1"]
    columns += ["untaught R@10"] if is_assessed else []
    answer(listing)
    print_table(columns, rows, columns[3:])
    if few:
        note(f"No share is shown for fewer than {FEW} held-out captions: {', '.join(few)}.")
    for item in items:
        if item["terms"]:
            note(f"{item['language']}: {summarize_terms(item['terms'])}")
    note(f"Release {listing['release']} serves; the shared table is version {listing['shared_version']}.")


def list_words(
    tag: Tag,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="Words at most.")] = 200,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="Write a table to fill in, for `learn`.")
    ] = None,
    teach: Annotated[bool, typer.Option("--teach", help="Teach what was answered on the page or over HTTP.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="With --teach: show the progress until it ends.")
    ] = False,
) -> None:
    """List the words that your pictures ask a speaker for, the most useful ones first."""
    with open_service(patience=PATIENCE) as client:
        if teach:
            expansion: Any = client.teach_language({"language": tag, "words": True})
            expansion = expansion["expansion"]
            conclude(watch_expansion(client, expansion) if watch else expansion, watch)
            return
        asked: Any = client.list_words(tag, count=count)
    if out is not None:
        _write_words(out, asked["items"])
    answer(asked)
    if out is None:
        print_table(("word", "pictures"), [_describe_word(item) for item in asked["items"]])
    else:
        say(f"{format_count(len(asked['items']), 'word')} to fill in: {out}. Then: `pictoglot learn {tag} {out}`")
    if asked["covered"] is not None:
        note(f"{format_share(asked['covered'])} % of the pictures have a word already.")
    if answered := asked["answered"]:
        rest = asked["needed"] - answered
        then = f"{rest} more and it can be taught" if rest > 0 else f"`pictoglot words {tag} --teach` teaches them"
        note(f"{format_count(answered, 'answer is', 'answers are')} kept; {then}.")


def _describe_word(item: dict[str, Any]) -> tuple[str, str]:
    if item["word"]:
        return f"{item['word']} = ?", f"in {format_count(item['asked_for'], 'search', 'searches')}, not understood"
    return item["english"], ", ".join(item["pictures"])


def _write_words(file: Path, items: list[dict[str, Any]]) -> None:
    """Write the table; spreadsheets take it for UTF-8 by its first character."""
    try:
        with file.open("w", encoding="utf-8-sig", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(_WORD_COLUMNS)
            rows = ((item["english"], item["word"] or "", " ".join(item["pictures"])) for item in items)
            table.writerows((*row[:2], _FORMULA.sub(r"'\g<0>", row[2])) for row in rows)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}.")


def list_expansions(
    id: Annotated[str | None, typer.Argument(help="Id of one expansion; without it, the newest ones.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it ends.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel it.")] = False,
    limit: Limit = 20,
) -> None:
    """List expansions, the jobs that teach a language; watch or cancel one."""
    if id is None and (watch or cancel):
        stop("Give the id of the expansion to watch or cancel.", REFUSED)
    with open_service() as client:
        if id is None:
            items: list[Any] = [*client.iterate_expansions(limit=limit)]
        elif cancel:
            items = [client.cancel_expansion(id)]
        else:
            items = [client.get_expansion(id)]
        if watch:
            conclude(watch_expansion(client, items[0]), watch)
            return
    rows = [(*(item[name] for name in ("id", "kind", "language")), *_describe_state(item)) for item in items]
    columns = ("id", "kind", "language", "state", "result")
    answer({"items": items} if id is None else items[0])
    print_table(columns, rows)
    if id is not None:
        _show_failure(items[0])
    elif any(item["error"] for item in items):
        note("`pictoglot expansions ID` says why one of them failed.")


def _describe_state(item: dict[str, Any]) -> tuple[str, str]:
    """Return the state, and what came of it: how far it is, the version, or why it failed."""
    if item["error"]:
        return item["state"], item["error"]["code"].replace("_", " ")  # a narrow terminal wraps between words
    if item["state"] == "running":
        return f"running {item['progress']:.0%}", item["phase"] or ""
    return item["state"], "" if item["version"] is None else f"version {item['version']}"


def watch_expansion(client: Client, expansion: dict[str, Any]) -> dict[str, Any]:
    """Return the expansion when it has ended. A broken stream is opened again, for at most a minute without events."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(bar_width=40), TaskProgressColumn()]
    columns += [TextColumn("{task.fields[phase]}", style="dim"), TimeRemainingColumn()]
    with Progress(*columns, console=errors, disable=is_json_wanted() or not errors.is_terminal) as progress:
        task = progress.add_task(expansion["language"], total=1.0, phase=expansion["state"])
        _draw(progress, task, expansion)
        say_so = partial(progress.update, task, phase="waiting for the service")
        try:
            for event in client.follow_expansion(expansion["id"], patience=_PATIENCE, note_pause=say_so):
                expansion = {**event}
                _draw(progress, task, expansion)
        except httpx.TransportError:
            again = f"`pictoglot expansions {expansion['id']} --watch`"
            warn(f"Nothing was heard for {_PATIENCE:.0f} seconds; {again} looks again.")
            raise
    return expansion


def _draw(progress: Progress, task: TaskID, expansion: dict[str, Any]) -> None:
    phase = expansion["phase"] or expansion["state"]
    steps = f" {expansion['step']}/{expansion['steps']}" if expansion["steps"] else ""
    progress.update(task, completed=expansion["progress"], phase=phase + steps)


def conclude(expansion: dict[str, Any], watched: bool) -> None:
    """Print the state; a watched expansion that did not succeed is a failure."""
    succeeded = expansion["state"] == "succeeded"
    answer(expansion)
    if expansion["kind"] == "base" and expansion["state"] in ENDED:
        show_move(expansion)
    elif succeeded:
        shows = {"rebuild": _show_rebuild, "assess": _show_assessment}
        shows.get(expansion["kind"], _show_lesson)(expansion, expansion["report"] or {})
    elif watched:
        note(f"{expansion['language']} {expansion['state']}.")
        _show_failure(expansion)
    else:
        say(f"Expansion {expansion['id']} is {expansion['state']}.")
        say(f"Watch it with `pictoglot expansions {expansion['id']} --watch`.")
    if watched and not succeeded:
        raise typer.Exit(FAILED)


def _show_failure(expansion: dict[str, Any]) -> None:
    """Print why it failed, and what to do where forcing would have served it; nothing if it did not fail."""
    if not (error := expansion["error"]):
        return
    detail, report = error["detail"] or error["code"], expansion["report"] or {}
    note(f"{detail.removesuffix('.')}.")
    if report.get("refused_by", "floor") != "floor":
        options = " --replace" if "replaced" in report else ""
        options += " --without-missing" if (report.get("dataset") or {}).get("missing") else ""
        note(f"`pictoglot learn {expansion['language']} FILE{options} --force` serves it anyway.")


def _list_missed(test: Mapping[str, Any]) -> str:
    """Return which test words were not found, some at most."""
    missed = test.get("missed", [])[:_MISSED]  # no texts are left where its dataset is gone
    more = test["asked"] - test["found"] - len(missed)
    return f"; not: {', '.join(missed)}{f' and {more} more' if more else ''}" if missed else ""


def _show_lesson(expansion: dict[str, Any], report: dict[str, Any]) -> None:
    done = "imported" if "imported" in report else "learned"
    say(f"{expansion['language']} is {done}: version {expansion['version']}, release {expansion['release']}.")
    if imported := report.get("imported"):
        say(f"{imported['sentence']}.")
    if test := report.get("test"):
        say(f"{test['sentence']}{_list_missed(test)}.")
    if gain := report.get("gain"):
        say(f"{gain['sentence']}.{' It is served because that was forced.' if gain['forced'] else ''}")
    for each in (report, *report.get("others", ())):
        if "in_sample" in each:
            say(f"{each['in_sample']['sentence']}.")
    if (joined := report.get("joined")) and joined["rows"]:
        before = format_count(joined["datasets"], "earlier dataset")
        say(f"It was also taught from {format_count(joined['rows'], 'caption')} of {before}.")
    if replaced := report.get("replaced"):
        before = format_count(replaced["datasets"], "earlier dataset")
        say(f"It replaces {before}: only the captions of this one are taught and shown now.")
        for sentence in replaced["sentences"]:
            say(f"{sentence}.")
    dataset = report.get("dataset") or {}
    if "val" in dataset:
        held = f"{format_count(dataset['val'], 'is', 'are')} held out"
        then = f" What serves was then taught {dataset['taught']:,}." if dataset["taught"] > dataset["train"] else ""
        say(f"{format_count(dataset['train'], 'row')} to learn from; {held}, to measure what was learned.{then}")
    _show_recalls(report)
    if (report.get("shared") or {}).get("moved") is False:
        own = f"Searches in {expansion['language']} use what was learned"
        say(f"{own}; every other language still answers as before.")


def _show_assessment(_: dict[str, Any], report: dict[str, Any]) -> None:
    """Print the base's figures; beside them those of the shared table and of the version, where these differ."""
    say(report["sentence"])
    _show_recalls(report)
    for name, which in (("shared", "The shared table"), ("taught", "What was taught")):
        if (figures := report[name]) is not None and figures["version"] != report.get("version", 0):
            say(f"{which}, version {figures['version']}:")
            _show_recalls(figures | {"against": report.get("against", "")})
    say("Nothing was taught, and what is served did not change.")


def _show_recalls(report: dict[str, Any]) -> None:
    if report.get("t2i"):
        other = {"english": "English", "pivots": "pivot", "words": "gloss"}.get(report.get("against", ""), "picture")
        names = ((f"text to {other}", "t2i"), (f"{other} to text", "i2t"))
        rows = [(name, *(format_recall(report, direction, at) for at in (1, 5, 10))) for name, direction in names]
        print_table(("percent", "R@1", "R@5", "R@10"), rows, right=("R@1", "R@5", "R@10"))


def _show_rebuild(expansion: dict[str, Any], report: dict[str, Any]) -> None:
    """Print what a rebuild did to the shared table; the version that serves each language did not change."""
    moved = f"The shared table is version {expansion['version']} in release {expansion['release']}."
    say(moved if report.get("moved") else "The shared table was not changed.")
    for tag, outcome in (report.get("languages") or {}).items():
        if "left_out" in outcome:
            say(f"{tag} is left out: {outcome['detail']}.")
        elif not outcome["shared"]["moved"]:
            unmeasured = sorted({*outcome["shared"].get("unmeasured", ())} - {"en"})
            lost = f"what {', '.join(unmeasured)} would lose cannot be measured"
            say(f"{tag} is left out: {lost if unmeasured else 'the other languages would have lost too much'}.")
