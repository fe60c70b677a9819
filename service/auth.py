"""Authentication, scopes and rate limits, and the route class that checks them before the body is read."""

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.responses import Response

from model.errors import FieldError, InvalidInput, RegistryUnavailable
from service.errors import Forbidden, MissingApiKey, RateLimited, Unauthorized
from service.keys import SCOPES, Key, Scope

UNAUTHENTICATED = "unauthenticated"  # the rate of all requests without a valid key together; no key has this id
_MAX_KEY_HEADER = 256  # bytes of a key header; longer ones are refused without a look-up
_MAX_CACHED = 1_024  # keys
_FRESH_SECONDS = 5.0  # how long a cached key is used without asking the registry
_STALE_SECONDS = 3_600.0  # the same while the registry does not answer
_MAX_BUCKETS = 10_000  # keys whose rate is counted; with more, all counts start again
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)

F = TypeVar("F", bound=Callable[..., Any])


class Body(Enum):
    """Which limits of size and time a route's form has; a JSON body always has those of `JSON`."""

    JSON = 1
    PICTURE = 2
    DATASET = 3


@dataclass(frozen=True)
class Principal:
    """Who sends a request: the id of a key, `admin` for the key of the settings, `anonymous` on an open loopback."""

    id: str
    scope: Scope


@dataclass(frozen=True)
class Guard:
    """What an endpoint declares with `needs`; `allowed` are the scopes that include the declared one."""

    scope: Scope
    body: Body
    allowed: tuple[Scope, ...]


def needs(scope: Scope, body: Body = Body.JSON) -> Callable[[F], F]:
    """Declare the scope of an endpoint and the kind of body it takes."""

    def declare(endpoint: F) -> F:
        endpoint.__guard__ = _guard(scope, body)  # type: ignore[attr-defined]
        return endpoint

    return declare


def guard_of(endpoint: Callable[..., Any]) -> Guard:
    """The endpoint's declaration; without one, only admins may use it (default deny)."""
    return getattr(endpoint, "__guard__", _guard("admin", Body.JSON))


def _guard(scope: Scope, body: Body) -> Guard:
    return Guard(scope, body, SCOPES[SCOPES.index(scope) :])


ANY_KEY = _guard("search", Body.JSON)


class GuardedRoute(APIRoute):
    """A route that checks key, scope, rate and query before the body may be read, within its limits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the guard."""
        handler, guard = super().get_route_handler(), guard_of(self.endpoint)
        names = frozenset(field.alias for field in self.dependant.query_params)

        async def guarded(request: Request) -> Response:
            context = request.app.state.context
            principal = await context.keyring.identify(request.headers, guard)
            context.rate.take(principal.id)
            request.state.principal = principal
            _check_query(request, names)
            is_json = request.headers.get("content-type", "").lower().startswith("application/json")
            request.state.body.allow(*context.body_limits[Body.JSON if is_json else guard.body])
            return await handler(request)

        return guarded


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


class Keyring:
    """Identifies keys. `check` reads a key's record from the registry by its plain text; None for an invalid key.

    `count_invalid` is called for every request without a key that is known to be valid, before the registry is read,
    and raises `RateLimited` when there are too many. They all share one rate: guessing keys hardly loads the registry.
    """

    def __init__(
        self,
        admin_key: str,
        is_open: bool,
        check: Callable[[str], Key | None],
        count_invalid: Callable[[], None] = lambda: None,
    ) -> None:
        self._admin = hashlib.sha256(admin_key.encode()).digest() if admin_key else None
        self._open = is_open
        self._check, self._count_invalid = check, count_invalid
        self._threads = CapacityLimiter(2)  # of its own: no key waits for what other requests do
        self._cache: dict[bytes, tuple[float, Key]] = {}  # digest of a valid key -> (when checked, the record)

    async def identify(self, headers: Headers, guard: Guard) -> Principal:
        """Who holds the key in these headers; `MissingApiKey`, `Unauthorized`, `Forbidden` or `RateLimited`."""
        values = headers.getlist("authorization") + headers.getlist("x-api-key")
        if not values:
            if self._open and "write" in guard.allowed and _is_local(headers):
                return Principal("anonymous", "write")
            self._count_invalid()
            raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        plain = _plain_key(values, "authorization" in headers)
        if plain is None:
            self._count_invalid()
        principal = None if plain is None else await self._principal(plain)
        if principal is None:
            raise Unauthorized("this key is not valid")
        if principal.scope not in guard.allowed:
            raise Forbidden(f"this request needs a key of scope {guard.scope}")
        return principal

    def forget(self) -> None:
        """Read every key from the registry again: one was created or revoked here."""
        self._cache = {}  # a new dict: reads in progress write their result into the old one, which is dropped

    async def _principal(self, plain: str) -> Principal | None:
        digest = hashlib.sha256(plain.encode()).digest()
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return Principal("admin", "admin")
        key = await self._record(plain, digest)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            return None
        return Principal(key.id, key.scope)

    async def _record(self, plain: str, digest: bytes) -> Key | None:
        """The key's record, a few seconds old at most, or older while the registry does not answer: searches go on."""
        now, cache = time.monotonic(), self._cache
        checked, key = cache.get(digest) or (-_STALE_SECONDS, None)
        if key is None:
            self._count_invalid()
            if not plain.startswith("pk_"):
                return None
        elif now - checked < _FRESH_SECONDS:
            return key
        try:
            record = await to_thread.run_sync(self._check, plain, limiter=self._threads)
        except RegistryUnavailable:
            if key is not None and now - checked < _STALE_SECONDS:
                return key
            raise
        if record is None:  # not kept: guesses must not push out the keys that are valid
            cache.pop(digest, None)
            return None
        if len(cache) >= _MAX_CACHED:
            cache.clear()
        cache[digest] = (now, record)
        return record


class Rate:
    """A token bucket per key: `per_minute` requests, at most a sixth of them in one burst."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, per_minute / 6)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key id -> (tokens, when counted)

    def take(self, key: str) -> None:
        """Count one request of `key`; raises `RateLimited` when there were too many."""
        now = self._clock()
        tokens, counted = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._per_second)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            wait = math.ceil((1 - tokens) / self._per_second)
            raise RateLimited("too many requests", retry_after_seconds=wait)
        if len(self._buckets) >= _MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[key] = (tokens - 1, now)


def _plain_key(values: list[str], bearer: bool) -> str | None:
    """The key as text; None when the headers cannot hold a valid one."""
    if len(values) > 1 or len(values[0]) > _MAX_KEY_HEADER:
        return None
    value = values[0].strip()
    if bearer:
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            return None
    value = value.strip()
    return value if value and value.isascii() else None


def _is_local(headers: Headers) -> bool:
    """False for a request from another site's page, or under a foreign host name that resolves to this loopback."""
    return headers.get("sec-fetch-site") != "cross-site" and bool(_LOOPBACK_HOST.fullmatch(headers.get("host", "")))
