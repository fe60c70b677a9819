"""The API in Python, with httpx alone: typed operations, retries, pages, events. Prints and asks nothing.

```python
from pictoglot_client import Client

with Client("http://127.0.0.1:8321", key) as client:
    for hit in client.search_pictures({"text": "afal coch", "language": "cy"})["items"]:
        print(hit["id"], hit["match"])
```
"""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from .contract import ExpansionItem, Operations, PictureHit, PictureSearch, Problem

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
PATIENCE = 75.0  # seconds for which a request is made again while the service is busy, restarts, or has no registry
ENDED = ("succeeded", "failed", "cancelled")
# Raised before anything of a request is sent.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
_BUSY = (429, 502, 503, 504)  # 502 and 504: a proxy answers, and the service behind it is away
_LONGEST_PAUSE = 30.0  # seconds
_REOPEN_PAUSE = 1.0  # seconds until a stream of events is opened again
_TIMEOUT = httpx.Timeout(900.0, connect=5.0)  # seconds: large files are uploaded
_STREAM_TIMEOUT = httpx.Timeout(45.0, connect=5.0)  # seconds: the service sends a line every 15
# To send the same again to these changes nothing more.
_REPEATABLE = ("/v1/search/", "/v1/embeddings", "/v1/pictures")
read_clock = time.monotonic


class RefusedError(httpx.HTTPStatusError):
    """The service refused, or could not do it now: decide by `status` and `code`, not by the text."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(read_problem(response), request=response.request, response=response)

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def problem(self) -> Problem | None:
        """The whole refusal; None where something before the service answered."""
        with contextlib.suppress(ValueError):
            problem: Problem = self.response.json()
            return problem if isinstance(problem, dict) and "code" in problem else None
        return None

    @property
    def code(self) -> str:
        """One of docs/errors.md, or empty."""
        return self.problem["code"] if self.problem else ""


class InvalidNameError(ValueError):
    """No item can have this name: a path would lead elsewhere. Nothing was sent."""


class StopError(Exception):
    """Somebody set `stopping`: nothing more is sent."""


class Client(Operations, httpx.Client):
    """A running service. Each operation is a method; the HTTP methods of httpx are there as well.

    An operation is sent again for `patience` seconds while the service is busy, and while it is away where that does
    no harm: teaching and rollbacks carry an `Idempotency-Key`. Files must be able to seek. Raises `RefusedError`, or
    httpx's `TransportError` when no answer came. Threads may share a client.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        patience: float = PATIENCE,
        timeout: httpx.Timeout | float = _TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        super().__init__(base_url=url, headers=headers, timeout=timeout, transport=transport, trust_env=is_proxied(url))
        self.patience = patience

    def ask(
        self,
        operation: str,
        names: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        form: bool = False,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Any:
        """Send an operation such as `GET /v1/pictures/{id}`; return the document, text or bytes that it answers."""
        method, path = operation.split()
        path = path.format(**{name: quote_name(str(value)) for name, value in (names or {}).items()})
        sent = {name: value for name, value in (headers or {}).items() if value is not None}
        if "Idempotency-Key" in (headers or {}):
            sent = make_key_header() | sent
        is_repeatable = "If-Match" not in sent and (
            method in ("GET", "PUT", "DELETE") or "Idempotency-Key" in sent or path.startswith(_REPEATABLE)
        )
        params = {name: value for name, value in (query or {}).items() if value is not None}
        encoded: dict[str, Any] = {} if body is None else {"json": body}
        if body is not None and (form or any(map(_is_file, body.values()))):
            encoded = {"files": encode_form(body)}
        tries = 0

        def send() -> httpx.Response:
            nonlocal tries
            tries += 1
            return self.request(method, path, params=params, headers=sent, **encoded)

        response = retry(send, patience=self.patience, is_repeatable=is_repeatable)
        if method == "DELETE" and tries > 1 and response.status_code == httpx.codes.NOT_FOUND:
            return None  # the first try may have done it
        if response.is_error:
            raise RefusedError(response)
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if kind == "application/json":
            return response.json()
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        return response.text if kind.startswith("text/") else response.content

    def iterate_hits(self, search: PictureSearch) -> Iterator[PictureHit]:
        """Yield the hits of a search, page after page; there is no page beyond rank 10,000."""
        search = search.copy()
        while True:
            page = self.search_pictures(search)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            search["cursor"] = page["next_cursor"]

    def stream_expansion(self, id: str) -> Iterator[ExpansionItem]:
        """Yield how an expansion stands, now and whenever that changes, until it or the stream ends."""
        path = f"/v1/expansions/{quote_name(id)}/events"
        with self.stream("GET", path, timeout=_STREAM_TIMEOUT) as response:
            if response.is_error:
                response.read()
                raise RefusedError(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def follow_expansion(
        self, id: str, *, patience: float | None = None, note_pause: Callable[[], None] = lambda: None
    ) -> Iterator[ExpansionItem]:
        """Yield how an expansion stands until it has ended; its stream is opened again when that breaks off.

        Raises what broke it off when that fails for `patience` seconds, by default the client's own.
        """
        patience = self.patience if patience is None else patience
        until: float | None = None  # from when it broke off
        while True:
            try:
                for expansion in self.stream_expansion(id):
                    until = None
                    yield expansion
                    if expansion["state"] in ENDED:
                        return
            except (httpx.TransportError, RefusedError) as error:
                until = read_clock() + patience if until is None else until
                if (isinstance(error, RefusedError) and error.status not in _BUSY) or read_clock() >= until:
                    raise
            note_pause()
            pause(_REOPEN_PAUSE)


def is_proxied(url: str) -> bool:
    """Whether to use the proxy of the environment: never for this machine itself."""
    return urlsplit(url).hostname not in LOOPBACK


def quote_name(name: str) -> str:
    """Return a name as a part of a path; raises `InvalidNameError`."""
    if name in ("", ".", ".."):
        raise InvalidNameError(f"{name!r} is not a valid name.")
    return quote(name, safe="")


def make_key_header() -> dict[str, str]:
    """Return the header that makes a request safe to repeat: the same key gives the first response again."""
    return {"Idempotency-Key": str(uuid.uuid4())}


def encode_form(body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the fields of a form and then its files, as httpx takes them; what is no text is JSON."""
    fields, files = list[tuple[str, Any]](), list[tuple[str, Any]]()
    for name, value in body.items():
        if _is_file(value):
            files.append((name, value))
        elif isinstance(value, list) and value and all(map(_is_file, value)):
            files += [(name, each) for each in value]
        elif value is not None:
            fields.append((name, (None, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))))
    return fields + files


def _is_file(value: object) -> bool:
    return isinstance(value, bytes | tuple) or hasattr(value, "read")


def read_problem(response: httpx.Response) -> str:
    try:
        return describe_problem(response.json(), response.status_code)
    except (ValueError, AttributeError):  # no JSON, or no object
        return f"The service answered with status {response.status_code}."


def describe_problem(problem: Mapping[str, Any], status: int) -> str:
    """Return the message of a problem document."""
    title, detail = problem.get("title") or f"Status {status}", problem.get("detail")
    text = f"{title}: {detail}" if detail and detail != title else str(title)
    return text if text.endswith((".", "!", "?")) else text + "."


def retry(
    send: Callable[[], httpx.Response],
    stopping: threading.Event | None = None,
    *,
    patience: float | None = None,
    is_repeatable: bool = True,
) -> httpx.Response:
    """Send a request, again while the service is busy or breaks off the connection; returns the response.

    It is given up after `patience` seconds, or at once where the service asks for more. One that is not repeatable is
    sent again only where the service cannot have begun it. Raises `StopError` before a request when `stopping` is set,
    also while it waits.
    """
    pause(0.0, stopping)
    lost, busy = (httpx.TransportError, _BUSY) if is_repeatable else (NOT_SENT, (429,))
    patience = PATIENCE if patience is None else patience
    seconds, until = 0.25, read_clock() + patience
    while read_clock() < until:
        seconds = least = min(2 * seconds, _LONGEST_PAUSE)
        try:
            response = send()
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError):  # no waiting mends an address or a key
            raise
        except lost:
            pass
        else:
            if response.status_code not in busy:
                return response
            asked = response.headers.get("Retry-After", "")
            if asked.isdecimal() and float(asked) > patience:
                return response
            least = min(float(asked), _LONGEST_PAUSE) if asked.isdecimal() else seconds
        pause(least, stopping)
    return send()


def pause(seconds: float, stopping: threading.Event | None = None) -> None:
    """Wait, or raise `StopError` at once when `stopping` is set."""
    if stopping is None:
        time.sleep(seconds)
    elif stopping.wait(seconds):
        raise StopError
