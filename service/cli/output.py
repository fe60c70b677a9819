"""Output that all commands share: tables or JSON, error sentences, exit statuses. Sends no request."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILED, REFUSED = 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as in shells

_WHOLE = ("id", "expansion")  # columns that people copy: never wrapped
_PIPED = 1_000  # width when the output is not a terminal: nothing is wrapped

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED)
errors = Console(stderr=True, highlight=False)

Loaded = TypeVar("Loaded")
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def show_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table; the columns in `right` hold numbers. Cells are plain text, never markup."""
    shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in _WHOLE)
    for row in rows:
        shown.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    console.print(shown)


def show(value: object, as_json: bool, *listing: Sequence[Any]) -> None:
    """The value as JSON, or as a `table` of these columns, rows and columns of numbers."""
    if as_json:
        show_json(value)
    else:
        table(*listing)


def tell(value: object, as_json: bool, sentence: str) -> None:
    """The value as JSON, or a sentence about it."""
    if as_json:
        show_json(value)
    else:
        say(sentence)


def say(sentence: str) -> None:
    """A line on standard output, without markup."""
    console.print(sentence, markup=False, soft_wrap=True)


def note(sentence: str) -> None:
    """A line on standard error, without markup."""
    errors.print(sentence, markup=False, soft_wrap=True)


def stop(sentence: str, status: int = FAILED) -> NoReturn:
    """Print the reason on standard error and exit."""
    note(sentence)
    raise typer.Exit(status)


def acceptable(load: Callable[[], Loaded]) -> Loaded:
    """The settings that `load` reads; exits with one sentence and status 78 when they are not valid."""
    from model.settings import MISCONFIGURED, SettingsError  # late: help needs no pydantic

    try:
        return load()
    except SettingsError as error:
        stop(str(error), MISCONFIGURED)


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object that an option has; exits when it is none."""
    if text is None:
        return None
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        stop(f"{option} must be a JSON object.", REFUSED)
    return given


def percent(share: Any) -> str:
    """A fraction 0..1 in percent with one decimal; a dash when it was not measured."""
    return f"{share * 100:.1f}" if isinstance(share, int | float) else "–"


def size(count: int) -> str:
    """Bytes for a person to read."""
    return f"{count / 1e6:,.1f} MB"


def recall(report: Mapping[str, Any], direction: str, at: int = 1) -> str:
    """R@K of a report in one direction."""
    return percent((report.get(direction) or {}).get(f"R@{at}"))


@contextlib.contextmanager
def quiet_interrupt() -> Iterator[None]:
    """Ctrl-C ends a command without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
