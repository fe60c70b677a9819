"""A request as it comes in: its middleware, the limits of its body, clients that leave, strict JSON.

The middleware gives each request its context, body and id, a log line, metrics, common headers, and status 500. The
line of a request that may have changed something also tells what (`target`: the ids of its path, or the first of what
it changed), and the label of the key. An unexpected exception is logged and answered with `internal_error`; its text is
never sent.
"""

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import (
    BodyTimeout,
    BodyTooLarge,
    ClientLeft,
    InvalidEncoding,
    Malformed,
    MalformedRequest,
    TooManyHeaders,
    can_answer_head,
    format_location,
    format_size,
    make_internal_error,
    make_invalid_request,
    make_problem_response,
)
from store import logs
from store.errors import FieldError, InvalidFilter, InvalidInput, PictoglotError, Unavailable

if TYPE_CHECKING:
    from opentelemetry.trace import Span

JSON, MERGE_PATCH, MULTIPART = "application/json", "application/merge-patch+json", "multipart/form-data"
MAX_HEADER_BYTES = 64 << 10  # path, query and header fields
DISCARD_SECONDS = 5.0  # seconds for which the rest of a body is discarded after its request was refused
_MAX_TARGET_BYTES = 32 << 10  # bytes of path and query alone
_MOST_TARGETS = 10  # in a line of the log
_MAX_HEADERS = 100
_MAX_DIGITS = 40  # of an integer; no schema accepts a longer one, and int() would be slow
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})  # all others share one label
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger("pictoglot.access")

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


class RequestTiming:
    """The seconds of one request, by part, in order; their sum is the time from its arrival to the last `record`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def record(self, part: str, nested: Mapping[str, float] | None = None) -> None:
        """Count the time since the last call as `part`, but for the seconds of the parts `nested` in it."""
        now, nested = time.perf_counter(), nested or {}
        rest = now - self._since - sum(nested.values())
        for name, seconds in (part, rest), *nested.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self._since = now

    @property
    def milliseconds(self) -> dict[str, float]:
        """The parts for a person to read."""
        return {part: round(seconds * 1_000, 2) for part, seconds in self.seconds.items()}


class RequestMiddleware:
    """Middleware that gives a request its state: the context that serves, a `BodyReader`, an id and a `RequestTiming`.

    Its path keeps the parts that the client sent: a slash that is percent-coded belongs to an id, and parts nothing.
    When the answer comes before the whole body was read, the rest is drained for a few seconds, then the connection is
    closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        # no spans of the page's files, nor of who looks after the service each second
        if logs.tracer is None or not scope["path"].startswith("/v1/"):
            return await self._answer(scope, receive, send)
        with logs.open_span(scope["method"], Headers(scope=scope), is_server=True) as span:
            await self._answer(scope, receive, send, span)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, span: "Span | None" = None) -> None:
        method, server = scope["method"], scope["app"].state
        if method == "HEAD" and can_answer_head(scope):
            scope = {**scope, "method": "GET"}  # the server keeps the original scope and sends only the headers
        request_id, timing, body = _choose_request_id(scope), RequestTiming(), BodyReader(scope, receive)
        context = server.context
        scope.setdefault("state", {}).update(request_id=request_id, timing=timing, body=body, context=context)
        if b"%" in (raw := scope.get("raw_path") or b"") and raw.startswith(b"/v1/"):
            scope["path"] = "/".join(map(_decode_segment, raw.decode("latin-1").split("/")))
        started, status, refusal = time.perf_counter(), 0, check_head(scope)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    *(rate() if (rate := scope["state"].get("rate")) else ()),
                ]
                # nor is another request read after a head that is refused, or at a shutdown
                if body.unread or refusal is not None or server.context.stopping.is_set():
                    message["headers"].append((b"connection", b"close"))
            elif body.unread and not message.get("more_body"):
                await send({**message, "more_body": True})  # the whole answer; the end is sent after draining
                await body.discard_rest()
                message = {"type": "http.response.body"}
            await send(message)

        app = self.app if refusal is None else make_problem_response(request_id, refusal)
        context.requests += 1
        try:
            await app(scope, body.receive, answer)
        except asyncio.CancelledError:  # a second signal ends the process at once; uvicorn would answer 500
            if status:
                raise
            await make_problem_response(request_id, Unavailable("the service is stopping"))(scope, receive, answer)
        except Exception:
            _log.exception("unexpected error", extra={"request_id": request_id})
            if status:  # the response has started
                raise
            await make_problem_response(request_id, make_internal_error())(scope, receive, answer)
        finally:
            context.requests -= 1
            self._record(scope, method, request_id, status, time.perf_counter() - started, span)

    def _record(
        self, scope: Scope, method: str, request_id: str, status: int, seconds: float, span: "Span | None"
    ) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = method if method in _METHODS else "OTHER"
        metrics: Metrics = scope["app"].state.context.metrics
        metrics.requests.labels(method, route, str(status)).observe(seconds)
        timing: RequestTiming = scope["state"]["timing"]
        if timing.seconds and status == 200:
            timing.record("send")
            for part, spent in timing.seconds.items():
                metrics.label_part(part).observe(spent)
        if span is not None:
            span.update_name(f"{method} {route}")
            attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            span.set_attributes({**attributes, "pictoglot.request_id": request_id})
            logs.add_parts(timing.seconds)
            if status >= 500:
                logs.fail(span, str(status))
        if not _log.isEnabledFor(logging.INFO):
            return
        principal = scope["state"].get("principal")
        fields = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1_000, 1),
            "key": principal.id if principal else None,
        }
        if principal and method not in READING and 200 <= status < 400:  # what was refused may be anything, even a key
            fields |= {"label": principal.label} if principal.label else {}
            fields |= _list_targets(scope)
        if timing.seconds and _log.isEnabledFor(logging.DEBUG):
            fields["request_time"] = timing.milliseconds
        _log.info("request", extra=fields)


def _list_targets(scope: Scope) -> dict[str, object]:
    """Return what a request changed: what its path names, else the first ids of many; and how many were refused."""
    act, refused = scope["state"].get("act"), scope["state"].get("refused", 0)
    changed = [*act.changed] if act else []
    more = f" and {len(changed) - _MOST_TARGETS:,} more" if len(changed) > _MOST_TARGETS else ""
    named = unquote("/".join(scope["path_params"].values())) or ", ".join(changed[:_MOST_TARGETS]) + more
    return ({"target": named} if named else {}) | ({"refused": refused} if refused else {})


def _choose_request_id(scope: Scope) -> str:
    """Return the client's own id if it is safe to log, else a new one that no seed or fork of this process repeats."""
    id = Headers(scope=scope).get("x-request-id", "")
    return id if _REQUEST_ID.fullmatch(id) else secrets.token_hex(16)


def _decode_segment(part: str) -> str:
    """Decode a part of a path but for slashes and percent signs: `unquote` then gives what the client meant."""
    return unquote(part).replace("%", "%25").replace("/", "%2F")


class BodyReader:
    """The body of one request, read within the limits that `allow` sets; before that, nothing may be read."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._limit, self._seconds, self._what = 0, 0.0, "a body here"
        self._read = 0
        self._deadline: float | None = None
        self._whole = False
        length = Headers(scope=scope).get("content-length", "")
        self._declared = int(length) if length.isdecimal() else None
        self._announced = bool(self._declared) or any(name == b"transfer-encoding" for name, _ in scope["headers"])

    @property
    def declared(self) -> int:
        """The Content-Length in bytes; 0 when the body is sent in chunks."""
        return self._declared or 0

    def allow(self, limit: int, seconds: float, what: str = "a body here") -> None:
        """Allow `limit` bytes, which must arrive within `seconds`; a refusal of more names `what` they are."""
        self._limit, self._seconds, self._what = limit, seconds, what

    @property
    def unread(self) -> bool:
        """Whether the client announced a body that was not read to its end."""
        return self._announced and not self._whole

    async def receive(self) -> Message:
        """Receive an ASGI message; of the body, raise `BodyTooLarge`, `BodyTimeout` or `ClientLeft`."""
        if self._whole:
            return await self._receive()
        if self._declared is not None and self._declared > self._limit:
            raise self._make_refusal()
        message = await self._receive_in_time()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        self._read += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._read > self._limit:
            raise self._make_refusal()
        return message

    def _make_refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"{self._what} may have at most {format_size(self._limit)} in all")

    async def discard_rest(self) -> None:
        """Discard the rest of the body, for a few seconds: a client that is still sending does not read the answer."""
        loop = asyncio.get_running_loop()
        end = loop.time() + DISCARD_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end if self._deadline is None else min(end, self._deadline)):
                while (await self._receive()).get("more_body"):
                    pass

    async def _receive_in_time(self) -> Message:
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError as error:
            raise BodyTimeout(f"the body did not arrive within {self._seconds:g} seconds") from error


async def run_unless_client_leaves(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """Return the result of `work`; if the client leaves first, cancel it and raise `ClientLeft`.

    The whole body must have been read: from then on `receive` reports nothing but the disconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    watching = asyncio.ensure_future(_cancel_when_client_leaves(task, request))
    try:
        return await work  # in this task: one of its own would cost two more turns of the event loop
    except asyncio.CancelledError:
        has_left = watching.done() and not watching.cancelled()
        if has_left and not task.uncancel():  # else the service is stopping, which cancels both tasks
            raise ClientLeft from None
        raise
    finally:
        watching.cancel()


async def _cancel_when_client_leaves(task: "asyncio.Task[Any]", request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()


@contextlib.contextmanager
def locate_error(*place: str | int) -> Iterator[None]:
    """Add the place in a body to an error of ours that is raised in the block."""
    try:
        yield
    except PictoglotError as error:
        error.errors = (FieldError(format_location("body", place), error.code),)
        raise


def validate(model: type[M], value: object, prefix: str = "body") -> M:
    """Return `value` as a `model`; raises `InvalidInput` with locations that begin with `prefix`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise make_invalid_request(faults, prefix) from None


def parse_json(data: bytes, place: str = "body") -> Any:
    """Parse one JSON document (RFC 8259), a body or a part of it: UTF-8, no NaN or Infinity, no duplicate keys.

    Raises `InvalidEncoding`, `Malformed` or `InvalidInput`, and `InvalidFilter` for a filter that stands alone.
    """
    is_filter = place.endswith(".filter")

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(read := dict(pairs)) != len(pairs):
            refusal = InvalidFilter if is_filter else InvalidInput
            raise refusal(f"{place}: duplicate key in a JSON object", errors=(FieldError(place, "duplicate_key"),))
        return read

    if place == "body" and b"\0" in data:  # never in UTF-8 JSON, always in UTF-16
        raise InvalidEncoding("the body is not UTF-8")
    try:
        text = data.decode("utf-8")
        return json.loads(
            text, parse_constant=_refuse_constant, parse_int=_parse_integer, object_pairs_hook=refuse_duplicates
        )
    except UnicodeDecodeError:
        raise InvalidEncoding("the body is not UTF-8") from None
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        refusal = InvalidFilter if is_filter else Malformed
        places = () if place == "body" else (FieldError(place, "json"),)
        raise refusal(f"{place} is not JSON", errors=places) from None


def _refuse_constant(literal: str) -> None:
    raise ValueError(literal)


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float("inf")


def check_head(scope: Scope) -> PictoglotError | None:
    """Return what is wrong with a head, whatever route it is for; None when it is well-formed.

    The parser's own limit does not apply to a head that arrives all at once. And a body that is both measured and in
    chunks, or in chunks that HTTP/1.0 does not know, ends at another place for a proxy that reads it in the other way.
    """
    if scope["http_version"] not in ("1.0", "1.1"):
        return MalformedRequest("this is neither HTTP/1.1 nor HTTP/1.0")
    fields = scope["headers"]
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    whole = size + sum(len(name) + len(value) for name, value in fields)
    if len(fields) > _MAX_HEADERS or size > _MAX_TARGET_BYTES or whole > MAX_HEADER_BYTES:
        detail = f"at most {_MAX_HEADERS} header fields, {MAX_HEADER_BYTES} bytes with path and query"
        return TooManyHeaders(detail)
    names = {name for name, _ in fields}
    if b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] == "1.0"):
        return MalformedRequest("send Content-Length, or Transfer-Encoding with HTTP/1.1, and not both")
    return None
