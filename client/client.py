"""What commands share that ask a service: address and key from the settings, refusals as sentences, progress."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .api import NOT_SENT, Client, InvalidNameError, make_key_header, quote_name, read_problem
from .output import FAILED, MISCONFIGURED, REFUSED, may_ask, note, print_json, stop

if TYPE_CHECKING:
    from .settings import ClientSettings

_SECONDS = 60.0  # to wait for a response; uploads get longer
_UPLOAD_SECONDS = 900.0
_SHOWN = 3  # places of one kind of fault
_KEY = "Set PICTOGLOT_KEY to a key with the needed scope; the admin key is printed where the service was started."
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
        note(f"{settings.address_file} names the service: {settings.address}.")
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
    except httpx.TransportError:
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
    as_json: bool = False,
    pin: bool = True,
) -> dict[str, Any] | None:
    """Make a change as its dry run shows it, after a `question` on a terminal; print it where JSON is wanted.

    Returns the answer, with the release of the plan as `expected`: unless `pin` is false, the change is refused when
    another one serves by then. None where nothing more is to be said.
    """
    plan = read_answer(client.post(path, json={**body, "dry_run": True}))
    if as_json and dry_run:
        print_json(plan)
        return None
    if not as_json:
        show(plan)
        is_empty = plan.get("items") == []
        if dry_run or is_empty or (may_ask(yes) and not typer.confirm(question)):
            return None
    pinned = {"expected": plan["release"]} if pin else {}
    done = _change(client, path, {**body, **pinned})
    if as_json:
        print_json(done)
        return None
    return {**done, **pinned}


def _change(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a change that is made once: without one, it is sent once more with the same key.

    Exits when no answer comes then either, or only that the service is not well.
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
            if not (is_sent and _is_failure(response)):
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
    note(read_problem(response))
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
        problem = response.json()
        for line in list_faults(problem):
            note(f"  {line}")
        if advice := _ADVICE.get((response.status_code, problem["code"])):
            note(advice.format(release=problem.get("release") or "another", expansion=problem.get("expansion")))
        note(f"  {problem['code']} · request {problem['request_id']}")
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


def make_progress(console: Console | None = None, *, quiet: bool = False) -> Progress:
    """Return a progress bar with how many are done, and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet |= console is not None and not console.is_terminal
    return Progress(*columns, console=console, disable=quiet)
