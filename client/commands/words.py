"""`words`: which words a gallery asks a speaker for, as a list or as a table to fill in."""

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import PATIENCE
from ..client import open_service
from ..output import AsJson, format_count, format_share, note, print_json, print_table, say, stop
from .languages import conclude, watch_expansion
from .terms import Tag

_COLUMNS = ("english", "caption", "pictures")


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
    as_json: AsJson = False,
) -> None:
    """List the words that your pictures ask a speaker for, the most useful ones first."""
    with open_service(patience=PATIENCE) as client:
        if teach:
            expansion: Any = client.teach_language({"language": tag, "words": True})
            expansion = expansion["expansion"]
            conclude(watch_expansion(client, expansion, quiet=as_json) if watch else expansion, watch, as_json)
            return
        asked: Any = client.list_words(tag, count=count)
    if out is not None:
        _write(out, asked["items"])
    if as_json:
        print_json(asked)
        return
    if out is None:
        print_table(("word", "pictures"), [_describe(item) for item in asked["items"]])
    else:
        say(f"{format_count(len(asked['items']), 'word')} to fill in: {out}. Then: `pictoglot learn {tag} {out}`")
    if asked["covered"] is not None:
        note(f"{format_share(asked['covered'])} % of the pictures have a word already.")
    if answered := asked["answered"]:
        left = asked["needed"] - answered
        then = f"{left} more and it can be taught" if left > 0 else f"`pictoglot words {tag} --teach` teaches them"
        note(f"{format_count(answered, 'answer is', 'answers are')} kept; {then}.")


def _describe(item: dict[str, Any]) -> tuple[str, str]:
    if item["word"]:
        return f"{item['word']} = ?", f"in {format_count(item['asked_for'], 'search', 'searches')}, not understood"
    return item["english"], ", ".join(item["pictures"])


def _write(file: Path, items: list[dict[str, Any]]) -> None:
    """Write the table; spreadsheets take it for UTF-8 by its first character."""
    try:
        with file.open("w", encoding="utf-8-sig", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(_COLUMNS)
            table.writerows((item["english"], item["word"] or "", " ".join(item["pictures"])) for item in items)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}.")
