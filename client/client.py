"""Talks to a running service: address and key from the settings, refusals as sentences. Prints no results."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

import httpx

from .commands.datasets import describe_fault
from .errors import Unanswered
from .output import FAILED, REFUSED, acceptable, note, stop

if TYPE_CHECKING:
    from .settings import ClientSettings

_SECONDS = 60.0  # to wait for a response; uploads get longer
_UPLOAD_SECONDS = 900.0
_PAGE = 100
_MOST_PLACES = 3  # shown per kind of fault

DEMO_IDS = ("emoji-", "scene-")  # how the ids of the demo gallery start
# Raised before anything of a request is sent.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)

_KEY = "Set PICTOGLOT_KEY to a key with the needed scope; the admin key is printed where the service was started."
# What to do next, by status and error code.
_ADVICE = {
    (401, "missing_api_key"): _KEY,
    (401, "invalid_api_key"): _KEY,
    (403, "insufficient_scope"): _KEY,
    (409, "alias_moved"): "Nothing was changed: release {release} serves now. Look again before you decide.",
    (409, "expansion_in_progress"): "`pictoglot expansions {expansion} --watch` shows its progress.",
    (422, "picture_not_found"): "Put the missing pictures into the gallery first, with `pictoglot import`, or teach "
    "without them: `--without-missing`.",
}
_DEMO_ADVICE = (
    "These are pictures of the demo gallery: wait until `pictoglot demo up` has filled it, "
    "or run `pictoglot demo fill`."
)


def client_settings() -> "ClientSettings":
    """Address and key of the service; exits when a setting is not valid."""
    from .settings import ClientSettings  # late: help needs no pydantic

    return acceptable(ClientSettings.load)


def note_address_file(settings: "ClientSettings") -> bool:
    """Name the `.env` of the current folder where it has the address: it may have come with a downloaded folder.

    Returns whether it has.
    """
    from .settings import find_address_file  # late: help needs no pydantic

    file = find_address_file()
    if file is not None:
        note(f"{file} names the service: {settings.url}.")
    return file is not None


@contextlib.contextmanager
def service(*, upload: bool = False) -> Iterator[httpx.Client]:
    """An HTTP client; any error inside ends the command with one sentence: status 2 when refused, 1 when failed."""
    settings = client_settings()
    note_address_file(settings)
    headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
    timeout = httpx.Timeout(_UPLOAD_SECONDS if upload else _SECONDS, connect=5.0)
    try:
        by_proxy = proxied(settings.url)
        with httpx.Client(base_url=settings.url, headers=headers, timeout=timeout, trust_env=by_proxy) as client:
            yield client
    except httpx.HTTPStatusError as error:
        _refused(error.response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
        stop("PICTOGLOT_URL must be a complete address (http://HOST:PORT), and PICTOGLOT_KEY plain ASCII.", REFUSED)
    except httpx.TimeoutException:
        stop(f"The service at {settings.url} did not answer in time.")
    except httpx.TransportError:
        stop(f"No service answers at {settings.url}. Start one with `pictoglot up`, or set PICTOGLOT_URL.")


def proxied(url: str) -> bool:
    """Whether to use the proxy of the environment: never for this machine itself."""
    from .settings import LOOPBACK  # late: help needs no pydantic

    return urlsplit(url).hostname not in LOOPBACK


def answer(response: httpx.Response) -> Any:
    """The JSON of a response; raises for an error status, which `service` reports."""
    response.read()
    return response.raise_for_status().json()


def change(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """The answer to a change that is made once. When no answer comes, it is sent once more with the same key.

    Raises `Unanswered` when no answer comes then either, or only that the service is not well.
    """
    key = fresh_key()
    try:
        return answer(client.post(path, json=body, headers=key))
    except httpx.TransportError as error:
        first = error
    try:
        return answer(client.post(path, json=body, headers=key))
    except httpx.TransportError as second:
        if isinstance(first, _NOT_SENT) and isinstance(second, _NOT_SENT):
            raise
        raise Unanswered from second
    except httpx.HTTPStatusError as error:
        if isinstance(first, _NOT_SENT) or not _failed(error.response):
            raise
        raise Unanswered from error


def fresh_key() -> dict[str, str]:
    """The header that makes one request safe to repeat: the same key gives the first response again."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def at(path: str, name: str) -> str:
    """The path of the item `name` below `path`; exits when no item can have that name."""
    if name in ("", ".", ".."):
        stop(f"{name!r} is not a valid name.", REFUSED)
    return f"{path}/{quote(name, safe='')}"


def every(client: httpx.Client, path: str, most: int = 10_000, **given: str) -> list[dict[str, Any]]:
    """The items of a listing, page after page; `given` are parameters of its query."""
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": min(_PAGE, most), **given}
    while True:
        page = answer(client.get(path, params=query))
        items += page["items"]
        if not page["next_cursor"] or len(items) >= most:
            return items[:most]
        query["cursor"] = page["next_cursor"]


def sentence(response: httpx.Response) -> str:
    """The message of a problem document."""
    try:
        problem = response.json()
    except (ValueError, UnicodeDecodeError):
        return f"The service answered with status {response.status_code}."
    return message(problem, response.status_code)


def message(problem: dict[str, Any], status: int) -> str:
    """The same of a document that was read."""
    title, detail = problem.get("title") or f"Status {status}", problem.get("detail")
    text = f"{title}: {detail}" if detail and detail != title else title
    return text if text.endswith((".", "!", "?")) else text + "."


def places(problem: dict[str, Any]) -> list[str]:
    """Where the faults are: one line for each kind, with the first places and how many more there are."""
    by_code: dict[str, list[str]] = {}
    for error in problem.get("errors", []):
        by_code.setdefault(error["code"], []).append(error["location"])
    return [
        f"{describe_fault(code) if first[0].startswith('line ') else code}: {_listed(first, _count(problem, code))}"
        for code, first in by_code.items()
    ]


def _count(problem: dict[str, Any], code: str) -> int:
    """How many faults of one kind there are in all, where the service says so: it lists only the first ones."""
    report = problem.get("report") or {}
    if code in (report.get("faults") or {}):
        return int(report["faults"][code]["count"])
    total = report.get("duplicates") if code == "duplicate" else problem.get("count")
    return int(total or 0) if code in ("duplicate", "picture_not_found") else 0


def _listed(locations: list[str], count: int) -> str:
    """`line 7`, `lines 2, 3, 4 and 1,306 more`, `body.limit`."""
    shown = locations[:_MOST_PLACES]
    if all(location.startswith("line ") for location in shown):
        numbers = ", ".join(location.removeprefix("line ") for location in shown)
        text = f"{'lines' if len(shown) > 1 else 'line'} {numbers}"
    else:
        text = ", ".join(shown)
    more = max(count, len(locations)) - len(shown)
    return f"{text} and {more:,} more" if more else text


def _refused(response: httpx.Response) -> NoReturn:
    note(sentence(response))
    with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
        problem = response.json()
        for line in places(problem):
            note(f"  {line}")
        if advice := _advice(response.status_code, problem):
            note(advice)
        note(f"  {problem['code']} · request {problem['request_id']}")
    raise SystemExit(FAILED if _failed(response) else REFUSED)


def _failed(response: httpx.Response) -> bool:
    """Whether the service could not do it now; otherwise it did it, or refused it."""
    return response.status_code >= 500 or response.status_code in (408, 429)


def _advice(status: int, problem: dict[str, Any]) -> str | None:
    """What to do next."""
    unknown = str(problem.get("detail")).partition("first: ")[2].split(", ")  # ids, with picture_not_found
    if problem["code"] == "picture_not_found" and all(id.startswith(DEMO_IDS) for id in unknown):
        return _DEMO_ADVICE
    advice = _ADVICE.get((status, problem["code"]))
    return advice and advice.format(release=problem.get("release") or "another", expansion=problem.get("expansion"))
