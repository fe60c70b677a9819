"""ASGI around everything: a request id, one log line, one measurement, headers of every answer, and status 500.

Whatever escapes from below becomes `internal_error` without a word of the exception, which goes to the log.
"""

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import answers_head, problem, unexpected

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})  # others would be endless labels
_log = logging.getLogger("pictoglot.access")


class AccessLog:
    """Outermost; reads no body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method = scope["method"]
        if method == "HEAD" and answers_head(scope):
            scope = {**scope, "method": "GET"}  # the server, which keeps the first scope, sends the headers alone
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, stamped)
        except Exception:
            _log.exception("unexpected", extra={"request_id": request_id})
            if status:  # the answer has begun
                raise
            await problem(request_id, unexpected())(scope, receive, stamped)
        finally:
            self._note(scope, method, request_id, status, time.perf_counter() - started)

    def _note(self, scope: Scope, method: str, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = method if method in _METHODS else "OTHER"
        metrics: Metrics = scope["app"].state.context.metrics
        metrics.requests.labels(method, route, str(status)).observe(seconds)
        principal = scope["state"].get("principal")
        fields = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1_000, 1),
            "key": principal.id if principal else None,
        }
        _log.info("request", extra=fields)


def _request_id(scope: Scope) -> str:
    """The client's own id when it is harmless, otherwise a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid.uuid4().hex
