"""Authentication, scopes and rate limits, and the route class that checks them before it reads the body."""

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
from service.bodies import JSON, MULTIPART, parse_json
from service.forms import FORMS, Body, read_form
from service.lanes import Lane
from service.problems import Forbidden, MissingApiKey, RateLimited, TooLarge, Unauthorized
from store.errors import FieldError, InvalidInput, RegistryUnavailable, UnsupportedMedia
from store.keys import SCOPES, ApiKey, Scope, parse_key_id

UNAUTHENTICATED = "unauthenticated"  # the rate of all requests without a valid key together; no key has this id
_FRESH_SECONDS = 5.0  # how long the copy of the keys is used without asking the registry
_STALE_SECONDS = 3_600.0  # the same while the registry does not answer
_PAUSE_SECONDS = 0.1  # between two readings of the keys
_PAUSES = 20  # times a reading's own length
_WAIT_SECONDS = 0.25  # for a newer copy, with a key that the copy has
_MAX_BUCKETS = 10_000  # keys whose rate is counted; with more, all counts start again
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)

_SEARCHES = (Body.PICTURE, Body.PICTURES_IN_JSON, Body.SEARCHES)  # bodies of what is answered from a snapshot

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Principal:
    """Who sends a request: the id of a key, `admin` for the key of the settings, `anonymous` on an open loopback.

    One that is bound to `collections` sees nothing of others; None for everything. `home` is the collection of what it
    adds without naming one. `label` is what the key is called in the log.
    """

    id: str
    scope: Scope
    collections: frozenset[str] | None = None
    home: str = DEFAULT_COLLECTION
    label: str = ""

    def require(self, collection: str | None) -> None:
        """Raises `Forbidden` unless this caller may write into a collection; None for one that is not named.

        Whether there is such a collection makes no difference.
        """
        if collection is not None and self.collections is not None and collection not in self.collections:
            raise Forbidden("this key is bound to other collections")


@dataclass(frozen=True)
class Guard:
    """What an endpoint declares with `needs`; `allowed` are the scopes that include the declared one.

    Only one that is `parted` answers a key that is bound to collections: it shows no such key anything of others.
    """

    scope: Scope
    body: Body
    allowed: tuple[Scope, ...]
    parted: bool


def needs(scope: Scope, body: Body = Body.JSON, *, parted: bool = False) -> Callable[[F], F]:
    """Declare the scope of an endpoint, the kind of body it takes, and whether keys of collections may use it."""

    def declare(endpoint: F) -> F:
        endpoint.__guard__ = _guard(scope, body, parted)  # type: ignore[attr-defined]
        return endpoint

    return declare


def guard_of(endpoint: Callable[..., Any]) -> Guard:
    """The endpoint's declaration; without one, only admins may use it (default deny)."""
    return getattr(endpoint, "__guard__", _guard("admin", Body.JSON))


def _guard(scope: Scope, body: Body, parted: bool = False) -> Guard:
    return Guard(scope, body, SCOPES[SCOPES.index(scope) :], parted)


ANY_KEY = _guard("search", Body.JSON)


class GuardedRoute(APIRoute):
    """A route that checks key, scope, rate and all but the body, before that is read within its limits for FastAPI.

    The files of a form are `request.state.files`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the guard."""
        handler, guard = super().get_route_handler(), guard_of(self.endpoint)
        names = frozenset(field.alias for field in self.dependant.query_params)
        read = None if self.body_field is None else _make_reader(self.body_field.field_info, guard.body)

        async def guarded(request: Request) -> Response:
            context = request.app.state.context
            principal = await context.keyring.identify(request.headers, guard)
            request.state.rate = partial(context.rate.headers, principal.id)  # as it is when the answer begins
            context.rate.take(principal.id)
            request.state.principal = principal
            _check_query(request, names)
            if read is None:
                request.state.body.allow(*context.body_limits[Body.JSON])
                return await handler(request)
            _check_parameters(request, self.dependant)
            if guard.body in _SEARCHES:
                _ = context.live.current  # raises `IndexUnavailable` while none serves
            async with AsyncExitStack() as stack:
                await read(request, context, stack)
                return await handler(request)

        return guarded


def _make_reader(taken: FieldInfo, kind: Body) -> Callable[[Request, Any, AsyncExitStack], Coroutine[Any, Any, None]]:
    """What reads the body of a route for FastAPI; a place among others of its kind, and a file, are the stack's.

    It raises `UnsupportedMedia`, and as `read_form` and `parse_json`.
    """
    media = getattr(taken, "media_type", JSON)
    schema = taken.annotation.model_json_schema()  # type: ignore[union-attr]

    async def read(request: Request, context: Any, stack: AsyncExitStack) -> None:
        request.state.files = []
        sent, options = parse_options_header(request.headers.get("content-type"))
        is_form = kind in FORMS and sent == MULTIPART.encode()
        limited = kind if is_form or kind in (Body.SEARCHES, Body.PICTURES_IN_JSON) else Body.JSON
        # pictures in a small body take their place when they are found
        if limited in context.places and (
            is_form or kind is Body.SEARCHES or not 0 < request.state.body.declared <= context.settings.json_bytes
        ):
            stack.enter_context(context.places[limited].place())
        request.state.body.allow(*context.body_limits[limited])
        # the results are put where Starlette keeps what it has read, and FastAPI finds it
        if is_form:
            boundary = options.get(b"boundary", b"")
            document = await read_form(request, kind, boundary, schema, context.settings, stack)
            request._body = document  # type: ignore[assignment]
        elif sent or taken.is_required() or await request.body():
            charset = options.get(b"charset", b"utf-8").lower()
            if media == MULTIPART or sent.decode("latin-1") not in (media, JSON) or charset not in (b"utf-8", b"utf8"):
                kinds = " or ".join(dict.fromkeys((media, JSON)))
                raise UnsupportedMedia(f"send {MULTIPART}" if media == MULTIPART else f"send {kinds} in UTF-8")
            data = await request.body()
            if kind is Body.PICTURES_IN_JSON:
                _refuse_many_values(data, context.settings.json_bytes)
            request._json = parse_json(data)

    return read


def _refuse_many_values(data: bytes, most: int) -> None:
    """Refuse a body with room for pictures that has more values than one without: they would take seconds to parse."""
    if len(data) > most and sum(data.count(mark) for mark in (b"[", b"{", b",")) > most:
        raise TooLarge(f"besides pictures, a body may have at most {most} bytes")


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Raises `InvalidInput` for a parameter not in `known` (without repeating its name) and for a duplicate one."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput("unknown query parameter", errors=(FieldError("query", "extra_forbidden"),))
        if name in seen:
            place = FieldError(f"query.{name}", "duplicate_key")
            raise InvalidInput(f"parameter `{name}` given more than once", errors=(place,))
        seen.add(name)


def _check_parameters(request: Request, wanted: Dependant) -> None:
    """Raises `RequestValidationError` for what FastAPI will refuse in path, query and header fields: it reads last."""
    given = [
        (wanted.path_params, request.path_params),
        (wanted.query_params, request.query_params),
        (wanted.header_params, request.headers),
    ]
    faults = [fault for fields, sent in given for fault in request_params_to_args(fields, sent)[1]]
    if faults:
        raise RequestValidationError(faults)


class Keyring:
    """Identifies keys by a copy of all keys, which `read` reads from the registry and which is seconds old at most.

    An id that the copy does not have waits for the next reading, which all such requests share: guesses cause ten
    readings a second at most, however many they are, and use a twentieth of a core at most; no valid key is refused
    because of them. A key that the copy has does not wait for a registry that hangs. `count_invalid` is
    called for each request without a valid key, and raises `RateLimited` when there are too many.
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
        """Who holds the key in these headers; `MissingApiKey`, `Unauthorized`, `Forbidden` or `RateLimited`."""
        values = headers.getlist("authorization") + headers.getlist("x-api-key")
        if not values:
            if self._open and "write" in guard.allowed and _is_local(headers):
                return Principal("anonymous", "write")
            self._count_invalid()
            raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        principal = await self._principal(_read_key(values, "authorization" in headers))
        if principal is None:
            self._count_invalid()
            raise Unauthorized("this key is not valid")
        if principal.scope not in guard.allowed:
            raise Forbidden(f"this request needs a key of scope {guard.scope}")
        if principal.collections is not None and not guard.parted:
            raise Forbidden("a key that is bound to collections may not do this")
        return principal

    async def sees_all(self, headers: Headers) -> bool:
        """Whether these headers have a key of no collections, or the service needs none. No key is no fault here.

        One that is not valid, or cannot be read now, sees as much as none: a health check has to be answered.
        """
        if "authorization" not in headers and "x-api-key" not in headers:
            return self._open and _is_local(headers)
        try:
            await self.identify(headers, ANY_KEY)
        except (Unauthorized, Forbidden, RateLimited, RegistryUnavailable):
            return False
        return True

    def revoke(self, id: str) -> None:
        """Refuse the key with this id from now on."""
        self._revoked.add(id)

    async def _principal(self, plain: str) -> Principal | None:
        if self._admin is not None and hmac.compare_digest(hashlib.sha256(plain.encode()).digest(), self._admin):
            return Principal("admin", "admin")
        id = parse_key_id(plain)
        key = None if id is None else await self._key(id)
        if key is None or key.id in self._revoked or not key.is_opened_by(plain):
            return None
        if key.collections is None:
            return Principal(key.id, key.scope, label=key.label)
        home = DEFAULT_COLLECTION if DEFAULT_COLLECTION in key.collections else key.collections[0]
        return Principal(key.id, key.scope, frozenset(key.collections), home, key.label)

    async def _key(self, id: str) -> ApiKey | None:
        """The key with this id; while the registry does not answer, an older copy serves: searches go on."""
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


class Rate:
    """A token bucket per key: `per_minute` requests, at most a sixth of them in one burst."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, per_minute / 6)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key id -> (tokens, when counted)

    def take(self, key: str) -> None:
        """Count one request of `key`; raises `RateLimited` when there were too many."""
        self._count(key, cost=1, needed=1)

    def owe(self, key: str, cost: int) -> None:
        """Count `cost` more for a request that was taken: later ones wait until it is paid, however much it is.

        Raises `RateLimited` while `key` owes for another one.
        """
        self._count(key, cost, needed=0)

    def headers(self, key: str) -> list[tuple[bytes, bytes]]:
        """What `key` has left, as `RateLimit-*` of the IETF: requests at once, and seconds until all are back."""
        tokens = self._tokens(key, self._clock())
        reset = math.ceil((self._burst - tokens) / self._per_second)
        left = (b"limit", self._burst), (b"remaining", max(0.0, tokens)), (b"reset", reset)
        return [(b"ratelimit-" + name, b"%d" % number) for name, number in left]

    def _tokens(self, key: str, now: float) -> float:
        tokens, counted = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - counted) * self._per_second)

    def _count(self, key: str, cost: int, needed: int) -> None:
        now = self._clock()
        tokens = self._tokens(key, now)
        if tokens < needed:
            self._buckets[key] = (tokens, now)
            wait = math.ceil((needed - tokens) / self._per_second)
            raise RateLimited("too many requests", retry_after_seconds=wait)
        if len(self._buckets) >= _MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[key] = (tokens - cost, now)


def _read_key(values: list[str], bearer: bool) -> str:
    """The key as text; empty when the headers hold none, or two."""
    scheme, _, value = values[0].strip().partition(" ") if bearer else ("bearer", "", values[0])
    return value.strip() if len(values) == 1 and scheme.lower() == "bearer" else ""


def _is_local(headers: Headers) -> bool:
    """False for a request from another site's page, or under a foreign host name that resolves to this loopback.

    A page's site is told by either header: not every browser sends both.
    """
    origin = headers.get("origin")
    hosts = [headers.get("host", "")] + ([] if origin is None else [origin.partition("://")[2]])
    return headers.get("sec-fetch-site") != "cross-site" and all(map(_LOOPBACK_HOST.fullmatch, hosts))
