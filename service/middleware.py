"""The ASGI middleware: context, body and id of each request, a log line, metrics, common headers, status 500.

The line of a request that may have changed something also tells what (`target`: the ids of its path), and the label of
the key. An unexpected exception is logged and answered with `internal_error`; its text is never sent.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.bodies import BodyReader, check_head
from service.metrics import Metrics
from service.problems import can_answer_head, make_internal_error, make_problem_response
from store.errors import Unavailable

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})  # all others share one label
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger("pictoglot.access")


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
                if body.unread or refusal is not None or server.context.draining:
                    message["headers"].append((b"connection", b"close"))
                if timing.seconds and _log.isEnabledFor(logging.DEBUG):
                    spent = ", ".join(f"{part};dur={spent}" for part, spent in timing.milliseconds.items())
                    message["headers"].append((b"server-timing", spent.encode()))
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
            self._record(scope, method, request_id, status, time.perf_counter() - started)

    def _record(self, scope: Scope, method: str, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = method if method in _METHODS else "OTHER"
        metrics: Metrics = scope["app"].state.context.metrics
        metrics.requests.labels(method, route, str(status)).observe(seconds)
        timing: RequestTiming = scope["state"]["timing"]
        if timing.seconds and status == 200:
            timing.record("send")
            for part, spent in timing.seconds.items():
                metrics.label_part(part).observe(spent)
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
        if principal and method not in _READING and 200 <= status < 400:  # what was refused may be anything, even a key
            fields |= {"label": principal.label} if principal.label else {}
            fields |= {"target": unquote("/".join(values))} if (values := scope["path_params"].values()) else {}
        if timing.seconds and _log.isEnabledFor(logging.DEBUG):
            fields["request_time"] = timing.milliseconds
        _log.info("request", extra=fields)


def _choose_request_id(scope: Scope) -> str:
    """Return the client's own id if it is safe to log, else a new one that no seed or fork of this process repeats."""
    id = Headers(scope=scope).get("x-request-id", "")
    return id if _REQUEST_ID.fullmatch(id) else secrets.token_hex(16)


def _decode_segment(part: str) -> str:
    """Decode a part of a path but for slashes and percent signs: `unquote` then gives what the client meant."""
    return unquote(part).replace("%", "%25").replace("/", "%2F")
