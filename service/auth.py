"""Authentication, scopes and rate limits; the route class that checks them, then reads the body of a request."""

import asyncio
import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic.fields import FieldInfo
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.responses import Response

from index.records import DEFAULT_COLLECTION
from service.forms import FORMS, BodyKind, read_form
from service.lanes import Lane
from service.problems import BodyTooLarge, InvalidApiKey, MissingApiKey, RateLimited
from service.requests import JSON, MULTIPART, READING, parse_json
from store.audit import CURRENT, Act
from store.errors import FieldError, InsufficientScope, InvalidInput, RegistryUnavailable, UnsupportedMedia
from store.keys import SCOPES, ApiKey, Scope, parse_key_id

UNAUTHENTICATED = "unauthenticated"  # the rate of all requests without a valid key together; no key has this id
_FRESH_SECONDS = 5.0  # how long the copy of the keys is used without asking the registry
_STALE_SECONDS = 3_600.0  # the same while the registry does not answer
_PAUSE_SECONDS = 0.1  # between two readings of the keys
_PAUSES = 20  # times a reading's own length
_WAIT_SECONDS = 0.25  # for a newer copy, with a key that the copy has
_MAX_BUCKETS = 10_000  # keys whose rate is counted; with more, all counts start again
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)

# bodies of what is answered from a snapshot
_LONG_JSON = (BodyKind.SEARCHES, BodyKind.CHANGES)  # of one request: it takes its place before it is read
_SEARCHES = (BodyKind.PICTURE, BodyKind.PICTURES_IN_JSON, BodyKind.SEARCHES)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Principal:
    """Who sends a request: the id of a key, `admin` for the key of the settings, `anonymous` on an open loopback.

    It sees only its `collections`; None for everything. What it adds without naming a collection goes to
    `default_collection`. The log calls it by its `label`.
    """

    id: str
    scope: Scope
    collections: frozenset[str] | None = None
    default_collection: str = DEFAULT_COLLECTION
    label: str = ""

    def require_access(self, collection: str | None) -> None:
        """Raise `InsufficientScope` unless this caller may write into a collection, which need not exist; None: any."""
        if collection is not None and self.collections is not None and collection not in self.collections:
            raise InsufficientScope("this key is bound to other collections")


@dataclass(frozen=True)
class Guard:
    """What an endpoint demands of a request; `allowed` are the scopes that include the declared one.

    Only one that `allows_bound_keys` answers a key that is bound to collections, and shows it nothing of others.
    """

    scope: Scope
    body: BodyKind
    allowed: tuple[Scope, ...]
    allows_bound_keys: bool


def require_scope(scope: Scope, body: BodyKind = BodyKind.JSON, *, allows_bound_keys: bool = False) -> Callable[[F], F]:
    """Declare the scope of an endpoint, its kind of body, and whether keys that are bound to collections may use it."""

    def declare(endpoint: F) -> F:
        endpoint.__guard__ = _make_guard(scope, body, allows_bound_keys)  # type: ignore[attr-defined]
        return endpoint

    return declare


def get_guard(endpoint: Callable[..., Any]) -> Guard:
    """Return the endpoint's declaration; without one, only admins may use it (default deny)."""
    return getattr(endpoint, "__guard__", _make_guard("admin", BodyKind.JSON))


def _make_guard(scope: Scope, body: BodyKind, allows_bound_keys: bool = False) -> Guard:
    return Guard(scope, body, SCOPES[SCOPES.index(scope) :], allows_bound_keys)


ANY_KEY = _make_guard("search", BodyKind.JSON)


class GuardedRoute(APIRoute):
    """A route that checks key, scope, rate and parameters, and then reads the body within its limits for FastAPI.

    It takes a place among requests of this kind first. The files of a form become `request.state.files`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the guard."""
        handler, guard = super().get_route_handler(), get_guard(self.endpoint)
        names = frozenset(field.alias for field in self.dependant.query_params)
        read = None if self.body_field is None else _make_body_reader(self.body_field.field_info, guard.body)

        async def handle_guarded(request: Request) -> Response:
            context = request.app.state.context
            principal = await context.keyring.identify(request.headers, guard)
            request.state.rate = partial(context.rate.list_headers, principal.id)  # as it is when the answer begins
            context.rate.take(principal.id)
            request.state.principal = principal
            CURRENT.set(_describe_act(request, principal))  # none, too: a connection's requests may share a context
            _check_query(request, names)
            if read is None:
                request.state.body.allow(*context.body_limits[BodyKind.JSON])
                return await handler(request)
            _check_parameters(request, self.dependant)
            if guard.body in _SEARCHES:
                _ = context.live.current  # raises `IndexUnavailable` while none serves
            async with AsyncExitStack() as stack:
                await read(request, context, stack)
                return await handler(request)

        return handle_guarded


def _describe_act(request: Request, principal: Principal) -> Act | None:
    if request.method in READING:
        return None
    act = f"{request.method} {request.scope['route'].path}"
    named = [unquote(value) for value in request.path_params.values()]
    return Act(principal.id, act, principal.label, request.state.request_id, named)


def _make_body_reader(
    body_field: FieldInfo, kind: BodyKind
) -> Callable[[Request, Any, AsyncExitStack], Coroutine[Any, Any, None]]:
    """Make the function that reads a body for FastAPI; its stack gives back the place in the queue, and the file.

    The function raises `UnsupportedMedia`, and what `read_form` and `parse_json` raise.
    """
    media = getattr(body_field, "media_type", JSON)
    schema = body_field.annotation.model_json_schema()  # type: ignore[union-attr]

    async def read(request: Request, context: Any, stack: AsyncExitStack) -> None:
        request.state.files = []
        sent, options = parse_options_header(request.headers.get("content-type"))
        is_form = kind in FORMS and sent == MULTIPART.encode()
        limited = kind if is_form or kind in (*_LONG_JSON, BodyKind.PICTURES_IN_JSON) else BodyKind.JSON
        # pictures in a small body take their place when they are found
        if limited in context.admissions and (
            is_form or kind in _LONG_JSON or not 0 < request.state.body.declared <= context.settings.json_bytes
        ):
            most, *_ = context.body_limits[limited]
            stack.enter_context(context.admissions[limited].admit(min(request.state.body.declared or most, most)))
        request.state.body.allow(*context.body_limits[limited])
        # the results are put where Starlette keeps what it has read, and FastAPI finds it
        if is_form:
            boundary = options.get(b"boundary", b"")
            document = await read_form(request, kind, boundary, schema, context.settings, stack)
            request._body = document  # type: ignore[assignment]
        elif sent or body_field.is_required() or await request.body():
            charset = options.get(b"charset", b"utf-8").lower()
            if media == MULTIPART or sent.decode("latin-1") not in (media, JSON) or charset not in (b"utf-8", b"utf8"):
                kinds = " or ".join(dict.fromkeys((media, JSON)))
                raise UnsupportedMedia(f"send {MULTIPART}" if media == MULTIPART else f"send {kinds} in UTF-8")
            data = await request.body()
            if kind is BodyKind.PICTURES_IN_JSON:
                _refuse_many_values(data, context.settings.json_bytes)
            request._json = parse_json(data)

    return read


def _refuse_many_values(data: bytes, most: int) -> None:
    """Refuse a body with room for pictures that has more values than one without: they would take seconds to parse."""
    if len(data) > most and sum(data.count(mark) for mark in (b"[", b"{", b",")) > most:
        raise BodyTooLarge(f"besides pictures, a body may have at most {most} bytes")


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Raise `InvalidInput` for a parameter not in `known` (without repeating its name) and for a duplicate one."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput("unknown query parameter", errors=(FieldError("query", "extra_forbidden"),))
        if name in seen:
            place = FieldError(f"query.{name}", "duplicate_key")
            raise InvalidInput(f"parameter `{name}` given more than once", errors=(place,))
        seen.add(name)


def _check_parameters(request: Request, dependant: Dependant) -> None:
    """Raise `RequestValidationError` for what FastAPI would refuse, once it has the body, in path, query, headers."""
    groups = [
        (dependant.path_params, request.path_params),
        (dependant.query_params, request.query_params),
        (dependant.header_params, request.headers),
    ]
    faults = [fault for fields, sent in groups for fault in request_params_to_args(fields, sent)[1]]
    if faults:
        raise RequestValidationError(faults)


class Keyring:
    """All keys, as a copy of the registry's that `read` makes and that is seconds old at most.

    An id that the copy lacks waits for the next reading, which all such requests share: guesses, however many, cause
    ten readings a second and take a twentieth of a core at most, and no valid key is refused because of them. A key
    that the copy has does not wait for a registry that hangs. `count_invalid` is called for each request without a
    valid key, and raises `RateLimited` when there are too many.
    """

    def __init__(
        self,
        admin_key: str,
        is_open: bool,
        read: Callable[[], Sequence[ApiKey]],
        count_invalid: Callable[[], None] = lambda: None,
    ) -> None:
        self._admin = hashlib.sha256(admin_key.encode()).digest() if admin_key else None
        self._open, self._read, self._count_invalid = is_open, read, count_invalid
        self._lane = Lane("keys", 1)  # of its own: no key waits for what other requests do
        self._keys: dict[str, ApiKey] = {}  # by id; those that are not valid too: they cause no reading
        self._revoked: set[str] = set()  # ids revoked here, whatever a reading says that began before
        self._read_at = self._tried_at = -math.inf  # when the last reading began that ended well, and the last of all
        self._pause = _PAUSE_SECONDS  # between two readings: longer where there are so many keys that one takes long
        self._reading: asyncio.Task[None] | None = None

    async def identify(self, headers: Headers, guard: Guard) -> Principal:
        """Return who holds the key in these headers.

        Raises `MissingApiKey`, `InvalidApiKey`, `InsufficientScope` or `RateLimited`.
        """
        values = headers.getlist("authorization") + headers.getlist("x-api-key")
        if not values:
            if self._open and "write" in guard.allowed and _is_local(headers):
                return Principal("anonymous", "write")
            self._count_invalid()
            raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        principal = await self._find_principal(_read_key(values, "authorization" in headers))
        if principal is None:
            self._count_invalid()
            raise InvalidApiKey("this key is not valid")
        if principal.scope not in guard.allowed:
            raise InsufficientScope(f"this request needs a key of scope {guard.scope}")
        if principal.collections is not None and not guard.allows_bound_keys:
            raise InsufficientScope("a key that is bound to collections may not do this")
        return principal

    async def can_see_all(self, headers: Headers) -> bool:
        """Tell whether these headers have a key that may see all collections, or the service needs none.

        A key that is missing, invalid or cannot be read now only sees less: a health check has to be answered.
        """
        if "authorization" not in headers and "x-api-key" not in headers:
            return self._open and _is_local(headers)
        try:
            await self.identify(headers, ANY_KEY)
        except (InvalidApiKey, InsufficientScope, RateLimited, RegistryUnavailable):
            return False
        return True

    def revoke(self, id: str) -> None:
        """Refuse the key with this id from now on."""
        self._revoked.add(id)

    async def _find_principal(self, plain: str) -> Principal | None:
        if self._admin is not None and hmac.compare_digest(hashlib.sha256(plain.encode()).digest(), self._admin):
            return Principal("admin", "admin")
        id = parse_key_id(plain)
        key = None if id is None else await self._find_key(id)
        if key is None or key.id in self._revoked or not key.is_opened_by(plain):
            return None
        if key.collections is None:
            return Principal(key.id, key.scope, label=key.label)
        own = DEFAULT_COLLECTION if DEFAULT_COLLECTION in key.collections else key.collections[0]
        return Principal(key.id, key.scope, frozenset(key.collections), own, key.label)

    async def _find_key(self, id: str) -> ApiKey | None:
        """Find the key with this id; while the registry does not answer, in an older copy: searches go on."""
        now = time.monotonic()
        if id not in self._keys:
            await self._read_after(now)
        elif now - self._tried_at >= _FRESH_SECONDS:
            try:
                await asyncio.wait_for(self._read_after(now), _WAIT_SECONDS)
            except (RegistryUnavailable, TimeoutError):
                self._tried_at = now  # the next requests do not wait again
        if now - self._read_at >= _STALE_SECONDS:
            raise RegistryUnavailable
        return self._keys.get(id)

    async def _read_after(self, now: float) -> None:
        """Wait for a reading that begins now or later; when a client leaves, the others wait on."""
        while self._read_at < now:
            self._reading = self._reading or asyncio.create_task(self._read_once())
            await asyncio.shield(self._reading)

    async def _read_once(self) -> None:
        try:
            await asyncio.sleep(self._tried_at + self._pause - time.monotonic())
            began = self._tried_at = time.monotonic()
            keys = await self._lane.run(self._read)
            self._pause = max(_PAUSE_SECONDS, _PAUSES * (time.monotonic() - began))
            self._keys, self._read_at = {key.id: key for key in keys}, began
        finally:
            self._reading = None


class RateLimiter:
    """Token buckets, one per key: `per_minute` requests, at most a sixth of them in one burst."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, per_minute / 6)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key id -> (tokens, when counted)

    def take(self, key: str) -> None:
        """Count one request of `key`; raises `RateLimited` when there were too many."""
        self._spend(key, cost=1, needed=1)

    def owe(self, key: str, cost: int) -> None:
        """Count `cost` more for a request that was taken; later ones wait until it is paid, however much it is.

        Raises `RateLimited` while `key` owes for another request.
        """
        self._spend(key, cost, needed=0)

    def list_headers(self, key: str) -> list[tuple[bytes, bytes]]:
        """List the headers `RateLimit-*` of the IETF: what `key` may send at once, and seconds until all is back."""
        tokens = self._count_tokens(key, self._clock())
        reset = math.ceil((self._burst - tokens) / self._per_second)
        limits = (b"limit", self._burst), (b"remaining", max(0.0, tokens)), (b"reset", reset)
        return [(b"ratelimit-" + name, b"%d" % number) for name, number in limits]

    def _count_tokens(self, key: str, now: float) -> float:
        tokens, counted = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - counted) * self._per_second)

    def _spend(self, key: str, cost: int, needed: int) -> None:
        now = self._clock()
        tokens = self._count_tokens(key, now)
        if tokens < needed:
            self._buckets[key] = (tokens, now)
            wait = math.ceil((needed - tokens) / self._per_second)
            raise RateLimited("too many requests", retry_after_seconds=wait)
        if len(self._buckets) >= _MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[key] = (tokens - cost, now)


def _read_key(values: list[str], bearer: bool) -> str:
    """Return the key as text; empty when the headers hold none, or two."""
    scheme, _, value = values[0].strip().partition(" ") if bearer else ("bearer", "", values[0])
    return value.strip() if len(values) == 1 and scheme.lower() == "bearer" else ""


def _is_local(headers: Headers) -> bool:
    """Tell whether no other site's page sends this request, nor a foreign host name that resolves to this loopback.

    Either header names a page's site: not every browser sends both.
    """
    origin = headers.get("origin")
    hosts = [headers.get("host", "")] + ([] if origin is None else [origin.partition("://")[2]])
    return headers.get("sec-fetch-site") != "cross-site" and all(map(_LOOPBACK_HOST.fullmatch, hosts))
