"""Who sends a request, what they may do and how often; and the route class that checks it before the body is read."""

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

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response

from model.errors import FieldError, InvalidInput, RegistryUnavailable
from service.errors import Forbidden, MissingApiKey, RateLimited, Unauthorized
from service.keys import SCOPES, Key, Scope

STRANGERS = "strangers"  # whose rate counts every request without a valid key; no key has this id
_LONGEST = 256  # bytes of a key header; longer ones are refused unread
_REMEMBERED = 1_024  # keys
_FRESH, _STALE = 5.0, 3_600.0  # seconds a registry's word counts; the same while the registry does not answer
_BUCKETS = 10_000  # keys whose rate is remembered; beyond, all start again
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)

F = TypeVar("F", bound=Callable[..., Any])


class Body(Enum):
    """Which limits of size and time the form has that a route takes; a JSON body always has those of `JSON`."""

    JSON = 1
    PICTURE = 2
    DATASET = 3


@dataclass(frozen=True)
class Principal:
    """Who asks: the id of a key, `admin` for the one of the settings, `anonymous` on an open loopback."""

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
    """The declaration; an endpoint without one is for admins alone: default deny."""
    return getattr(endpoint, "__guard__", _guard("admin", Body.JSON))


def _guard(scope: Scope, body: Body) -> Guard:
    return Guard(scope, body, SCOPES[SCOPES.index(scope) :])


ANY_KEY = _guard("search", Body.JSON)


class GuardedRoute(APIRoute):
    """A route that checks key, scope, rate and query first, and only then lets the body be read, within its limits."""

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
    """Raises `InvalidInput` for a parameter outside of `known` (never said back) and for one given more than once."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput("unknown query parameter", errors=(FieldError("query", "extra_forbidden"),))
        if name in seen:
            place = FieldError(f"query.{name}", "duplicate_key")
            raise InvalidInput(f"parameter `{name}` given more than once", errors=(place,))
        seen.add(name)


class Keyring:
    """Recognises keys. `check` asks the registry for a key's record by its plain text, or None.

    `stranger` is called for every request without a valid key, before the registry is asked; it raises `RateLimited`
    when there are too many of them. One rate for all strangers: guessing keys costs the registry next to nothing.
    """

    def __init__(
        self,
        admin_key: str,
        is_open: bool,
        check: Callable[[str], Key | None],
        stranger: Callable[[], None] = lambda: None,
    ) -> None:
        self._admin = hashlib.sha256(admin_key.encode()).digest() if admin_key else None
        self._open = is_open
        self._check, self._stranger = check, stranger
        self._seen: dict[bytes, tuple[float, Key | None]] = {}  # digest -> (when checked, the record)

    async def identify(self, headers: Headers, guard: Guard) -> Principal:
        """Who holds the key in these headers; `MissingApiKey`, `Unauthorized`, `Forbidden` or `RateLimited`."""
        given = headers.getlist("authorization") + headers.getlist("x-api-key")
        if not given:
            if self._open and "write" in guard.allowed and _from_here(headers):
                return Principal("anonymous", "write")
            self._stranger()
            raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        plain = _plain(given, "authorization" in headers)
        if plain is None:
            self._stranger()
        principal = None if plain is None else await self._holder(plain)
        if principal is None:
            raise Unauthorized("this key is not valid")
        if principal.scope not in guard.allowed:
            raise Forbidden(f"this needs a key of scope {guard.scope}")
        return principal

    def forget(self) -> None:
        """Ask the registry anew about every key: one was made or revoked here."""
        self._seen = {}  # a new one: what is being asked right now is answered into the old one, and forgotten with it

    async def _holder(self, plain: str) -> Principal | None:
        digest = hashlib.sha256(plain.encode()).digest()
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return Principal("admin", "admin")
        key = await self._known(plain, digest)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            return None
        return Principal(key.id, key.scope)

    async def _known(self, plain: str, digest: bytes) -> Key | None:
        """The registry's word, a few seconds old at most, or older while it does not answer: search must go on."""
        now, seen = time.monotonic(), self._seen
        checked, key = seen.get(digest, (-_STALE, None))
        if key is None:
            self._stranger()
        if now - checked < _FRESH or not plain.startswith("pk_"):
            return key
        try:
            record = await run_in_threadpool(self._check, plain)
        except RegistryUnavailable:
            if key is not None and now - checked < _STALE:
                return key
            raise
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen[digest] = (now, record)
        return record


class Rate:
    """A token bucket a key: `per_minute` requests, a sixth of them at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, per_minute / 6)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key id -> (tokens, when counted)

    def take(self, key: str) -> None:
        """One request of `key`; raises `RateLimited` when there were too many."""
        now = self._clock()
        tokens, counted = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._per_second)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            wait = math.ceil((1 - tokens) / self._per_second)
            raise RateLimited("too many requests", retry_after_seconds=wait)
        if len(self._buckets) >= _BUCKETS:
            self._buckets.clear()
        self._buckets[key] = (tokens - 1, now)


def _plain(given: list[str], bearer: bool) -> str | None:
    """The key as text; None when what was sent cannot be one."""
    if len(given) > 1 or len(given[0]) > _LONGEST:
        return None
    value = given[0].strip()
    if bearer:
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            return None
    value = value.strip()
    return value if value and value.isascii() else None


def _from_here(headers: Headers) -> bool:
    """Not asked by a page of another site, nor under a name that somebody else made lead to this loopback."""
    return headers.get("sec-fetch-site") != "cross-site" and bool(_LOOPBACK_HOST.fullmatch(headers.get("host", "")))
