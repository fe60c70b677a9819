"""The errors of HTTP, and what every error becomes: a problem document (RFC 9457), with status 500 if unknown."""

import errno
import logging
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from store import errors
from store.errors import RecordChanged


class Malformed(errors.PictoglotError, code="malformed_json"):
    """The body is not JSON: truncated, two documents, or `NaN`."""


class InvalidApiKey(errors.PictoglotError):
    """The key is unknown, revoked or expired."""


class CursorExpired(errors.PictoglotError):
    """Another release, or other vectors, serve now than when this cursor was made; search again without it."""


def format_size(count: int) -> str:
    """Return bytes as people say them, in MB of a million where there are many."""
    return f"{count / 1e6:.3g} MB" if count >= 100_000 else f"{count:,} bytes"


class BodyTooLarge(errors.PictoglotError):
    """The body has more bytes than this route accepts."""


class RateLimited(errors.PictoglotError):
    """Too many requests with this key, or too many without a valid one, which share one rate."""


class BaseUnusable(errors.InvalidInput):
    """The base or encoding to move to does not exist, or the server or its settings refuse it; `detail` says why."""


class InvalidEncoding(Malformed):
    """A body that is not UTF-8."""


class MalformedRequest(Malformed):
    """What came is not HTTP/1.1, or its end could be seen at two places; the connection is closed."""


class MalformedMultipart(Malformed):
    """A multipart body that is truncated, or a body that is not multipart."""


class MissingApiKey(InvalidApiKey):
    """The request has no key."""


class SessionEnded(MissingApiKey):
    """The session of this browser is over, or the key that it remembers is not valid any more; sign in again."""


class SignInFailed(InvalidApiKey):
    """The issuer did not say who signs in, or not to this browser; the log has the reason. Sign in again."""


class UntrustedProxy(InvalidApiKey):
    """Headers name a person, without the secret of `PICTOGLOT_PROXY_SECRET` or from elsewhere than the proxy."""


class ForeignOrigin(errors.InsufficientScope):
    """A change with a person's session from a page under another address than `PICTOGLOT_PUBLIC_URL`."""


class NoGroup(errors.InsufficientScope):
    """The person is known, but in none of the groups of `PICTOGLOT_GROUPS`."""


class MethodNotAllowed(errors.PictoglotError):
    """The path exists, but does not allow this method."""


class BodyTimeout(errors.PictoglotError):
    """The body did not arrive in time."""


class TooManyHeaders(errors.PictoglotError):
    """Too many header fields, or too many bytes before the body."""


class InvalidCursor(errors.InvalidInput):
    """This is not a cursor that this server made for this request."""


STATUSES: dict[type[errors.PictoglotError], int] = {
    Malformed: 400,
    InvalidApiKey: 401,
    errors.InsufficientScope: 403,
    errors.NotFound: 404,
    MethodNotAllowed: 405,
    BodyTimeout: 408,
    errors.Conflict: 409,
    CursorExpired: 410,
    RecordChanged: 412,
    BodyTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.InvalidInput: 422,
    RateLimited: 429,
    TooManyHeaders: 431,
    errors.Failure: 500,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
    errors.DiskTooSmall: 507,
}
_ROUTING = {  # what Starlette finds by itself
    404: errors.NotFound("no such path"),
    405: MethodNotAllowed("this path does not allow this method"),
}
CLIENT_LEFT = 499  # as in nginx; nobody reads this answer, but it appears in the log and the metrics
_MAX_LOCATIONS = 20  # listed in one answer
_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # full, or may not be written
_BROKEN = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE}  # a disk that fails, or that is gone
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # too many open files, or too little memory, for now
_SAFE_LOCATION = re.compile(r"[A-Za-z0-9_.\[\]@-]{1,64}")
_SENTENCES = {  # in place of pydantic's words, by its kinds of faults
    "bool_type": "this must be true or false",
    "dict_type": "this must be an object",
    "extra_forbidden": "there is no such field",
    "finite_number": "this must be a finite number",
    "float_type": "this must be a number",
    "greater_than": "this must be more than {gt}",
    "greater_than_equal": "this must be {ge} or more",
    "int_type": "this must be a whole number",
    "less_than_equal": "this may be {le} at most",
    "list_type": "this must be a list",
    "literal_error": "this must be {expected}",
    "missing": "this is required",
    "model_attributes_type": "this must be an object",
    "model_type": "this must be an object",
    "string_pattern_mismatch": "this has characters, or a form, that is not allowed here",
    "string_too_long": "this may have at most {max_length} characters",
    "string_too_short": "this must have {min_length} or more characters",
    "string_type": "this must be a text",
    "too_long": "this list may have at most {max_length}",
    "too_short": "this list must have {min_length} or more",
}
_log = logging.getLogger("pictoglot.errors")


class ClientLeft(Exception):
    """The client closed the connection; its request is dropped."""


def get_status(error: errors.PictoglotError) -> int:
    """Return the status of the nearest class in `STATUSES`."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def make_problem_response(request_id: str, error: errors.PictoglotError) -> Response:
    """Make the answer to an error (RFC 9457)."""
    body = make_problem_body(request_id, error)
    status = body["status"]
    return JSONResponse(body, status, _make_headers(error, status), media_type="application/problem+json")


def make_problem_body(request_id: str, error: errors.PictoglotError) -> dict[str, Any]:
    """Make the body of the answer to an error. The details of a `Failure` are not sent: they are about our files."""
    status = get_status(error)
    if status == 500:
        _log.error("failure", extra={"request_id": request_id, "code": error.code}, exc_info=error)
        error = make_internal_error()
    body: dict[str, Any] = {
        "type": f"urn:pictoglot:error:{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "errors": [{"location": place.location, "code": place.code} for place in error.errors[:_MAX_LOCATIONS]],
        **error.extra,
    }
    if "Retry-After" in (headers := _make_headers(error, status)):
        body["retry_after_seconds"] = int(headers["Retry-After"])
    return body


def translate_system_error(error: Exception) -> Exception:
    """Return the error of ours for what the system refuses or cannot do; any other error unchanged."""
    if not isinstance(error, OSError):
        return error
    if error.errno in _NOT_WRITABLE:
        return errors.StorageFull("the data root cannot be written to now")
    if error.errno in _BROKEN:
        _log.error("the disk under the data root fails", exc_info=error)  # the answer does not say which file
        return errors.DiskFailing("the disk under the data root reports an error; it is in the server's log")
    if error.errno in _EXHAUSTED:
        _log.warning("the system is out of files or memory", exc_info=error)
        return errors.Unavailable("too many files are open, or there is too little memory; try again later")
    return error


def refuse(place: str, code: str, detail: str) -> NoReturn:
    """Raise `InvalidInput` for one place of a request."""
    raise errors.InvalidInput(detail, errors=(errors.FieldError(place, code),))


def make_internal_error() -> errors.PictoglotError:
    """Make the error that a client sees for a bug of ours."""
    return errors.PictoglotError("internal error; the server's log has the reason under this request id")


def convert_to_refusal(error: BaseException | None) -> errors.PictoglotError:
    """Return an error of ours for one part of a request. A bug must not take the other answers with it."""
    error = translate_system_error(error) if isinstance(error, Exception) else error
    if isinstance(error, errors.PictoglotError):
        return error
    bug = make_internal_error()
    bug.__cause__ = error  # the log has it, as of a whole request
    return bug


def can_answer_head(scope: Scope) -> bool:
    """Tell whether HEAD is answered like GET: everywhere except on streams, which would never end."""
    return not scope["path"].endswith("/events")


def make_invalid_request(faults: Sequence[Any], prefix: str = "") -> errors.PictoglotError:
    """Make the error for what pydantic reports; it names locations and kinds of faults, never the input."""
    places = tuple(errors.FieldError(format_location(prefix, fault["loc"]), str(fault["type"])) for fault in faults)
    if any(fault["type"] == "string_unicode" for fault in faults):
        return errors.TextInvalidUnicode("the text contains surrogates", errors=places)
    first = f"{places[0].location}: {_describe_fault(faults[0])}" if places else ""
    return errors.InvalidInput(first, errors=places)


def _describe_fault(fault: Any) -> str:
    """Say what is wrong, in words without names of ours."""
    message, sentence = str(fault["msg"]).removeprefix("Value error, "), _SENTENCES.get(fault["type"])
    try:
        return sentence.format(**fault.get("ctx", {})) if sentence else message
    except KeyError:  # of a fault that one of our own validators has named so
        return message


def install(app: FastAPI) -> None:
    """Answer every error on every path with a problem document."""

    async def answer_error(request: Request, error: Exception) -> Response:
        headers: dict[str, str] = {}
        if isinstance(error, ClientLeft):
            return Response(status_code=CLIENT_LEFT)
        if isinstance(error, RequestValidationError):
            error = make_invalid_request(error.errors())
        elif isinstance(error, HTTPException):
            headers.update(error.headers or {})
            if error.status_code == 405 and (allowed := _list_allowed(request)):
                headers["Allow"] = ", ".join(sorted(allowed))
            error = _ROUTING.get(error.status_code) or errors.PictoglotError()
        else:
            error = translate_system_error(error)
        if not isinstance(error, errors.PictoglotError):
            raise error
        answer = make_problem_response(request.state.request_id, error)
        answer.headers.update(headers)
        return answer

    for kind in (errors.PictoglotError, RequestValidationError, HTTPException, ClientLeft, OSError):
        app.add_exception_handler(kind, answer_error)


def list_routes(app: FastAPI) -> list[APIRoute]:
    routes = [context.route for context in iter_route_contexts(app.routes)]
    return [route for route in routes if isinstance(route, APIRoute)]


def _make_headers(error: errors.PictoglotError, status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        return {"Retry-After": str(error.extra.get("retry_after_seconds", 1))}
    return {}


def _list_allowed(request: Request) -> set[str]:
    """List the methods of all routes of this path: Starlette names only those of the first one."""
    routes = [route for route in list_routes(request.app) if route.path_regex.match(request.scope["path"])]
    methods = {method for route in routes for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods and can_answer_head(request.scope) else methods


def format_location(prefix: str, loc: Sequence[object]) -> str:
    """Format a readable location; a part that may be the client's own text is shown only if it looks like a name."""
    parts = ([prefix] if prefix else []) + [str(part) for part in loc]
    return ".".join(part if _SAFE_LOCATION.fullmatch(part) else "?" for part in parts)[:200] or "body"
