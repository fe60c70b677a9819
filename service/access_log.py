"""The outermost ASGI middleware: request id, one log line and one metric per request, common headers, status 500.

An unexpected exception is logged and answered with `internal_error`; its text is never sent.
"""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import answers_head, problem, unexpected

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})  # all others share one label
_log = logging.getLogger("pictoglot.access")


class AccessLog:
    """Reads no body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method = scope["method"]
        if method == "HEAD" and answers_head(scope):
            scope = {**scope, "method": "GET"}  # the server keeps the original scope and sends only the headers
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
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
            await self.app(scope, receive, send_with_headers)
        except Exception:
            _log.exception("unexpected error", extra={"request_id": request_id})
            if status:  # the response has started
                raise
            await problem(request_id, unexpected())(scope, receive, send_with_headers)
        finally:
            self._record(scope, method, request_id, status, time.perf_counter() - started)

    def _record(self, scope: Scope, method: str, request_id: str, status: int, seconds: float) -> None:
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
    """The client's own id if it is safe to log, otherwise a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
