"""Request bodies: their limits of size and time, clients that leave, strict JSON."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from service.problems import (
    BodyTimeout,
    BodyTooLarge,
    ClientLeft,
    InvalidEncoding,
    Malformed,
    MalformedRequest,
    TooManyHeaders,
    format_size,
    make_invalid_request,
)
from store.errors import FieldError, InvalidFilter, InvalidInput, PictoglotError

JSON, MERGE_PATCH, MULTIPART = "application/json", "application/merge-patch+json", "multipart/form-data"
MAX_HEADER_BYTES = 64 << 10  # path, query and header fields
DISCARD_SECONDS = 5.0  # seconds for which the rest of a body is discarded after its request was refused
_MAX_TARGET_BYTES = 32 << 10  # bytes of path and query alone
_MAX_HEADERS = 100
_MAX_DIGITS = 40  # of an integer; no schema accepts a longer one, and int() would be slow

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


class BodyReader:
    """The body of one request, read within the limits that `allow` sets; before that, nothing may be read."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._limit, self._seconds, self._what = 0, 0.0, "a body here"
        self._read = 0
        self._deadline: float | None = None
        self._whole = False
        self._declared = _read_content_length(scope)
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
        """Receive an ASGI message; of the body, raise `BodyTooLarge`, `Malformed`, `BodyTimeout` or `ClientLeft`."""
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
        if self._declared is not None and self._read > self._declared:
            raise Malformed("the body is longer than its Content-Length")
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
    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientLeft
        return doing.result()
    finally:
        watching.cancel()  # nobody waits for its end: that would be two more turns of the event loop
        if doing.cancel():
            await asyncio.gather(doing, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def _read_content_length(scope: Scope) -> int | None:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isdecimal() else None
