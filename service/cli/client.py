"""Talks to a running service: address and key from the settings, refusals as sentences. Shows no answer."""

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx

from service.cli.output import FAILED, REFUSED, acceptable, note, stop

if TYPE_CHECKING:
    from service.cli.settings import ClientSettings

_SECONDS = 60.0  # an answer; uploads get longer
_UPLOAD_SECONDS = 900.0
_PAGE = 100


def client_settings() -> "ClientSettings":
    """Where the service is asked, and with which key; exits when a setting is not acceptable."""
    from service.cli.settings import ClientSettings  # late: help needs no pydantic

    return acceptable(ClientSettings.load)


@contextlib.contextmanager
def service(*, upload: bool = False) -> Iterator[httpx.Client]:
    """A client; whatever goes wrong inside ends the command with one sentence: status 2 when refused, 1 when failed."""
    settings = client_settings()
    headers = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
    timeout = httpx.Timeout(_UPLOAD_SECONDS if upload else _SECONDS, connect=5.0)
    try:
        by_proxy = proxied(settings.url)
        with httpx.Client(base_url=settings.url, headers=headers, timeout=timeout, trust_env=by_proxy) as client:
            yield client
    except httpx.HTTPStatusError as error:
        _refused(error.response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
        stop("PICTOGLOT_URL or PICTOGLOT_KEY cannot be used: is it a whole http address, and a plain key?", REFUSED)
    except httpx.TimeoutException:
        stop(f"The service at {settings.url} does not answer in time.")
    except httpx.TransportError:
        stop(f"No service answers at {settings.url}. Start one with `pictoglot up`, or set PICTOGLOT_URL.")


def proxied(url: str) -> bool:
    """Whether the proxy of the environment is to be asked: nobody's leads to this machine."""
    from service.settings import LOOPBACK  # late: help needs no pydantic

    return urlsplit(url).hostname not in LOOPBACK


def answer(response: httpx.Response) -> Any:
    """The JSON of an answer; a refusal is raised for `service` to tell."""
    response.read()
    return response.raise_for_status().json()


def at(path: str, name: str) -> str:
    """The address of what is called `name` below `path`; exits when nothing can have that name."""
    if name in ("", ".", ".."):
        stop(f"Nothing is called {name!r}.", REFUSED)
    return f"{path}/{quote(name, safe='')}"


def every(client: httpx.Client, path: str, most: int = 10_000) -> list[dict[str, Any]]:
    """The items of a listing, page after page."""
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": min(_PAGE, most)}
    while True:
        page = answer(client.get(path, params=query))
        items += page["items"]
        if not page["next_cursor"] or len(items) >= most:
            return items[:most]
        query["cursor"] = page["next_cursor"]


def sentence(response: httpx.Response) -> str:
    """What a problem document says, for a person."""
    try:
        problem = response.json()
    except (ValueError, UnicodeDecodeError):
        return f"The service answered with status {response.status_code}."
    title, detail = problem.get("title") or f"Status {response.status_code}", problem.get("detail")
    said = f"{title}: {detail}" if detail and detail != title else title
    return said if said.endswith((".", "!", "?")) else said + "."


def _refused(response: httpx.Response) -> None:
    note(sentence(response))
    with contextlib.suppress(ValueError, AttributeError, KeyError):
        problem = response.json()
        for place in problem.get("errors", []):
            note(f"  {place['location']}: {place['code']}")
        if response.status_code in (401, 403):
            note("Set PICTOGLOT_KEY to a key that may do this; the admin key is printed where the service was started.")
        note(f"  {problem['code']} · request {problem['request_id']}")
    failed = response.status_code >= 500 or response.status_code in (408, 429)
    stop_quietly(FAILED if failed else REFUSED)


def stop_quietly(status: int) -> None:
    """Exit; the reason was told."""
    raise SystemExit(status)


def sendable(text: str) -> bool:
    """Whether what was typed is text: bytes that a terminal's encoding does not know arrive as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def dumps(value: object) -> str:
    """JSON for a form field."""
    return json.dumps(value, ensure_ascii=False)
