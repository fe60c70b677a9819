"""Output that all commands share: tables or JSON, error sentences, exit statuses. Sends no request."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILED, REFUSED = 1, 2
MISCONFIGURED = 78  # EX_CONFIG of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as in shells

_PROGRAM = "pictoglot"
_WHOLE_COLUMNS = ("id", "when (UTC)", "created (UTC)")  # never wrapped: people copy ids

console = Console(highlight=False, emoji=False)  # people write :apple:
errors = Console(stderr=True, highlight=False, emoji=False)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Collection = Annotated[str | None, typer.Option(help="Only pictures in this collection.")]
Filter = Annotated[
    str | None, typer.Option("--filter", help='JSON, such as {"must": [{"key": "tags", "match": {"value": "x"}}]}.')
]
FILE: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}  # of an option with a file to read
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, nothing is asked.")]


def print_json(value: object) -> None:
    """Print a JSON document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), *, split: int = 0
) -> None:
    """Print a table, with a line below its first `split` rows; the columns in `right` hold numbers.

    Cells are plain text, never markup.

    For a file or a program, cells are separated by tabs, and nothing is wrapped.
    """
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        for line in (columns, *cells):
            sys.stdout.write("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in line) + "\n")
        return
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), border_style="dim")
    for name in columns:
        shown.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in _WHOLE_COLUMNS
        )
    for number, row in enumerate(cells, 1):
        shown.add_row(*map(Text, row), end_section=number == split)
    console.print(shown)


def print_listing(value: object, as_json: bool, *listing: Sequence[Any]) -> None:
    """Print the value as JSON, or a table of columns, rows and columns of numbers."""
    if as_json:
        print_json(value)
    else:
        print_table(*listing)


def print_result(value: object, as_json: bool, sentence: str) -> None:
    """Print the value as JSON, or a sentence about it."""
    if as_json:
        print_json(value)
    else:
        say(sentence)


def say(sentence: str) -> None:
    """Print a line, without markup; commands of ours in `backticks` as they run here."""
    console.print(_name_commands(sentence), markup=False, soft_wrap=True)


def note(sentence: str) -> None:
    """Print a line on standard error."""
    errors.print(_name_commands(sentence), markup=False, soft_wrap=True)


def name_program() -> str:
    """Return how this command line is called: by its name where the shell finds it, else by its path as typed."""
    typed = sys.argv[0]
    if Path(typed).name != _PROGRAM:  # a module of Python, or another program that calls us
        return _PROGRAM
    found = shutil.which(_PROGRAM)
    if found is not None and Path(found).resolve() == Path(typed).resolve():
        return _PROGRAM
    return shlex.quote(typed)


def _name_commands(sentence: str) -> str:
    return sentence.replace(f"`{_PROGRAM} ", f"`{name_program()} ")


def stop(sentence: str, status: int = FAILED) -> NoReturn:
    """Print the reason on standard error and exit."""
    note(sentence)
    raise typer.Exit(status)


def read_version() -> str:
    """Return the installed version of the package that this module is a part of."""
    return metadata.version("pictoglot-client" if __name__.startswith("pictoglot_client.") else "pictoglot")


def may_ask(*silenced: bool) -> bool:
    """Whether a question can be asked: by a terminal, and no option says not to."""
    return not any(silenced) and has_person()


def has_person() -> bool:
    """Whether somebody types at a terminal."""
    return sys.stdin.isatty()


def parse_object(text: str | None, option: str) -> dict[str, Any] | None:
    """Return the JSON object that an option has; exits when it is none."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        stop(f"{option} must be a JSON object.", REFUSED)
    return value


def format_share(share: Any) -> str:
    """Return a fraction 0..1 in percent with one decimal; a dash when it was not measured."""
    return f"{share * 100:.1f}" if isinstance(share, int | float) else "–"


def format_size(count: int) -> str:
    """Return bytes as megabytes."""
    return f"{count / 1e6:,.1f} MB"


def format_time(moment: str | None) -> str | None:
    """Return a time of the service to the minute."""
    return moment and moment[:16].replace("T", " ")


def format_recall(report: Mapping[str, Any], direction: str, at: int = 1) -> str:
    """Return R@K of a report in one direction."""
    return format_share((report.get(direction) or {}).get(f"R@{at}"))


def format_count(count: int, one: str, many: str = "") -> str:
    """Return `1 picture`, `1,234 pictures`; `many` where that is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
