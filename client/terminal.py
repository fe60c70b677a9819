"""What commands share: output as tables or JSON, error sentences, exit statuses; and the service that they ask.

Its address and key come from the settings, its refusals are printed as sentences, and long work shows its progress.
"""

import contextlib
import json
import re
import shlex
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import httpx
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperOption

from .api import NOT_SENT, Client, InvalidNameError, make_key_header, quote_name, read_problem

if TYPE_CHECKING:
    from .settings import ClientSettings

FAILED, REFUSED = 1, 2
MISCONFIGURED = 78  # EX_CONFIG of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, as in shells

_PROGRAM = "pictoglot"
_WHOLE_COLUMNS = ("id", "when (UTC)", "created (UTC)")  # never wrapped: people copy ids

console = Console(highlight=False, emoji=False)  # people write :apple:
errors = Console(stderr=True, highlight=False, emoji=False)

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)]
Collection = Annotated[str | None, typer.Option(help="Only pictures in this collection.")]
Filter = Annotated[
    str | None, typer.Option("--filter", help='JSON, such as {"must": [{"key": "tags", "match": {"value": "x"}}]}.')
]
FILE: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}  # of an option with a file to read
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, nothing is asked.")]
_SECONDS = 60.0  # to wait for a response; uploads get longer
_UPLOAD_SECONDS = 900.0
_SHOWN = 3  # places of one kind of fault
_KEY = (
    "Set PICTOGLOT_KEY to a key with the needed scope; the first is PICTOGLOT_ADMIN_KEY of the service's settings, "
    "or is printed where it was started."
)
# What to do next, by status and error code.
_ADVICE = {
    (401, "missing_api_key"): _KEY,
    (401, "invalid_api_key"): _KEY,
    (403, "insufficient_scope"): _KEY,
    (409, "alias_moved"): "Nothing was changed: release {release} serves now. Look again before you decide.",
    (409, "dataset_doubted"): "Nothing was taught. If it is right all the same, add `--yes`; if only the columns are "
    "swapped, add `--swap`.",
    (409, "expansion_in_progress"): "`pictoglot expansions {expansion} --watch` shows its progress.",
    (422, "picture_not_found"): "Import these pictures first with `pictoglot import`, or leave them out with "
    "`--without-missing`. Those of the demo come while `pictoglot demo up` fills its gallery.",
}
T = TypeVar("T")
R = TypeVar("R")


class JsonCommand(TyperCommand):
    """Command with the option `--json`: then it prints its answer, and nothing else but errors."""

    def __init__(self, *arguments: Any, params: list[Any], **more: Any) -> None:
        option = TyperOption(param_decls=["--json"], is_flag=True, default=False, help="Print JSON for programs.")
        super().__init__(*arguments, params=[*params, option], **more)

    def invoke(self, ctx: Any) -> Any:
        """Carry it out; what is for people is not printed meanwhile if JSON is wanted."""
        console.quiet = ctx.params.pop("json")
        try:
            return super().invoke(ctx)
        finally:
            console.quiet = False


def is_json_wanted() -> bool:
    return console.quiet


def answer(value: object, sentence: str = "") -> None:
    """Print the value where JSON is wanted, else the sentence about it; every command with `--json` does so once."""
    if is_json_wanted():
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    elif sentence:
        say(sentence)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), *, split: int = 0
) -> None:
    """Print a table, with a line below its first `split` rows; the columns in `right` hold numbers.

    Cells are plain text, never markup.

    For a file or a program, cells are separated by tabs, and nothing is wrapped.
    """
    if is_json_wanted():
        return
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


def say(sentence: str) -> None:
    """Print a line, without markup; commands of ours in `backticks` as they run here."""
    console.print(_name_commands(sentence), markup=False, soft_wrap=True)


def note(sentence: str) -> None:
    """Print a line on standard error, unless JSON is wanted."""
    if not is_json_wanted():
        warn(sentence)


def warn(sentence: str) -> None:
    """Print a line on standard error, for whoever reads JSON, too."""
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
    warn(sentence)
    raise typer.Exit(status)


def read_version() -> str:
    """Return the installed version of the package that this module is a part of."""
    return metadata.version("pictoglot-client" if __name__.startswith("pictoglot_client.") else "pictoglot")


def may_ask(yes: bool) -> bool:
    """Whether a question can be asked: by a terminal, and no option says not to."""
    return not (yes or is_json_wanted()) and has_person()


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


def load_client_settings() -> "ClientSettings":
    """Return address and key of the service; exits when a setting is not valid."""
    from .settings import ClientSettings, SettingsError  # late: help needs no pydantic

    try:
        return ClientSettings.load()
    except SettingsError as error:
        stop(str(error), MISCONFIGURED)


def note_address_file(settings: "ClientSettings") -> bool:
    """Name the `.env` of the current folder if it has the address, and return whether: it may have been downloaded."""
    if settings.address_file is not None:
        warn(f"{settings.address_file} names the service: {settings.address}.")
    return settings.address_file is not None


@contextlib.contextmanager
def open_service(*, upload: bool = False, patience: float = 0.0) -> Iterator[Client]:
    """Open the service; an error inside ends the command with a sentence, and status 2 if refused, 1 if failed."""
    settings = load_client_settings()
    note_address_file(settings)
    timeout = httpx.Timeout(_UPLOAD_SECONDS if upload else _SECONDS, connect=5.0)
    try:
        with Client(settings.address, settings.key, patience=patience, timeout=timeout) as client:
            yield client
    except httpx.HTTPStatusError as error:
        _exit_refused(error.response)
    except InvalidNameError as error:
        stop(str(error), REFUSED)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
        stop("PICTOGLOT_URL must be a complete address (http://HOST:PORT), and PICTOGLOT_KEY plain ASCII.", REFUSED)
    except httpx.TimeoutException:
        stop(f"The service at {settings.address} did not answer in time.")
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            stop(f"{settings.address} is not trusted here: {error}. SSL_CERT_FILE names a file of authorities.")
        stop(f"No service answers at {settings.address}. Start one with `pictoglot up`, or set PICTOGLOT_URL.")


def read_answer(response: httpx.Response) -> Any:
    """Return the JSON of a response; raises for an error status, which `open_service` reports."""
    response.read()
    return response.raise_for_status().json()


def carry_out(
    client: httpx.Client,
    path: str,
    body: dict[str, Any],
    show: Callable[[dict[str, Any]], None],
    question: str,
    *,
    dry_run: bool = False,
    yes: bool = False,
    pin: bool = True,
) -> dict[str, Any] | None:
    """Make a change as its dry run shows it, after a `question` on a terminal; `answer` with what came of it.

    Returns the answer, with the release of the plan as `expected`: unless `pin` is false, the change is refused when
    another one serves by then. None where nothing was changed.
    """
    plan = read_answer(client.post(path, json={**body, "dry_run": True}))
    show(plan)
    is_empty = plan.get("items") == [] and not is_json_wanted()  # a program is told what came of its change, not a plan
    if dry_run or is_empty or (may_ask(yes) and not typer.confirm(question)):
        answer(plan)
        return None
    pinned = {"expected": plan["release"]} if pin else {}
    done = _change(client, path, {**body, **pinned})
    answer(done)
    return {**done, **pinned}


def _change(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a change; without one, it is sent once more, with the same key and the same `expected`.

    Exits when that does not tell either what became of the first. A key is known to rollbacks and moves alone: the
    others answer 409 to the second, perhaps because the first was done.
    """
    key = make_key_header()
    is_sent = False
    for is_last in (False, True):
        try:
            response = client.post(path, json=body, headers=key)
        except httpx.TransportError as error:
            is_sent |= not isinstance(error, NOT_SENT)
            if is_last and not is_sent:
                raise
        else:
            if not (is_sent and (_is_failure(response) or response.status_code == httpx.codes.CONFLICT)):
                return dict(read_answer(response))
    before = f"Release {body['expected']} served before; look" if "expected" in body else "Look"
    stop(f"It is not known whether this was done. {before} with `pictoglot releases`, then decide.")


def build_path(path: str, name: str) -> str:
    """Return the path of the item `name` below `path`; `open_service` reports a name that no item can have."""
    return f"{path}/{quote_name(name)}"


def list_faults(problem: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of fault: where the first ones are; of rows of a dataset, in the service's words.

    Rows that are doubted follow as they are.
    """
    faults = (problem.get("report") or {}).get("faults") or {}
    for fault in faults.values():
        yield f"{fault['count']:,} {fault['reason']}: {format_lines(fault['first_lines'], fault['count'])}"
    for doubt in problem.get("doubts", []):
        yield from map(format_row, doubt["rows"])
    places: dict[str, list[str]] = {}
    for error in problem.get("errors", []):
        places.setdefault(error["code"], []).append(error["location"])
    for code, locations in places.items():
        if code not in faults:
            more = f" and {len(locations) - _SHOWN:,} more" if len(locations) > _SHOWN else ""
            yield f"{code}: {', '.join(locations[:_SHOWN])}{more}"


def format_row(row: Mapping[str, Any]) -> str:
    """Return a row of a dataset as `kazh | cat`."""
    return f"{row['caption']} | {row['text'] or '–'}"


def format_lines(first: Sequence[int], count: int) -> str:
    """Return where the first of so many are: `line 7`, `lines 2, 3, …`."""
    shown = ", ".join(f"{line:,}" for line in first)
    return f"line{'s' if count > 1 else ''} {shown}{', …' if count > len(first) else ''}"


def _exit_refused(response: httpx.Response) -> NoReturn:
    warn(read_problem(response))
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
        problem = response.json()
        for line in list_faults(problem):
            warn(f"  {line}")
        if advice := _ADVICE.get((response.status_code, problem["code"])):
            warn(advice.format(release=problem.get("release") or "another", expansion=problem.get("expansion")))
        warn(f"  {problem['code']} · request {problem['request_id']}")
    raise SystemExit(FAILED if _is_failure(response) else REFUSED)


def _is_failure(response: httpx.Response) -> bool:
    """Whether the service could not do it now; otherwise it did or refused it."""
    return response.status_code >= 500 or response.status_code in (408, 429)


def map_in_order(
    work: Callable[[T], R], items: Iterable[T], at_once: int, stopping: threading.Event | None = None
) -> Iterator[tuple[T, R]]:
    """Yield each item with what `work` makes of it, in order; `at_once` are worked on at a time, each in a thread.

    `items` are taken one by one, as they are needed. An exception of `work` comes out here, and ends it:
    `stopping` is set then, before waiting for what the threads are at.
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= at_once:
                    first, result = waiting.popleft()
                    yield first, result.result()
            for first, result in waiting:
                yield first, result.result()
        except BaseException:
            if stopping is not None:
                stopping.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def make_progress(console: Console | None = None) -> Progress:
    """Return a progress bar with how many are done, and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_off = is_json_wanted() or (console is not None and not console.is_terminal)
    return Progress(*columns, console=console, disable=is_off)
