"""Who asks, and what they may: keys, scopes, and the route class that checks both before a byte of the body is read."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response

from model.errors import Forbidden, MissingApiKey, RegistryUnavailable, Unauthorized
from model.registry import Key
from service import queries

_LONGEST = 256  # bytes of a key header; longer ones are refused unread
_REMEMBERED = 1_024  # keys
_FRESH, _STALE = 5.0, 3_600.0  # seconds a registry's word counts; the same while the registry does not answer
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)

F = TypeVar("F", bound=Callable[..., Any])


class Scope(IntEnum):
    """What a route asks for; each holds the ones before it."""

    SEARCH = 1
    WRITE = 2
    ADMIN = 3


class Body(IntEnum):
    """Which limit of size and time a route's body has."""

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
    """What an endpoint declares with `needs`."""

    scope: Scope
    body: Body


def needs(scope: Scope, body: Body = Body.JSON) -> Callable[[F], F]:
    """Declare the scope of an endpoint and the kind of body it takes."""

    def declare(endpoint: F) -> F:
        endpoint.__guard__ = Guard(scope, body)  # type: ignore[attr-defined]
        return endpoint

    return declare


def guard_of(endpoint: Callable[..., Any]) -> Guard:
    """The declaration; an endpoint without one is for admins: default deny."""
    return getattr(endpoint, "__guard__", Guard(Scope.ADMIN, Body.JSON))


class GuardedRoute(APIRoute):
    """A route that asks for key, scope and rate first, and only then lets its limits of the body apply."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the guard."""
        handler, guard = super().get_route_handler(), guard_of(self.endpoint)
        names = frozenset(field.alias for field in self.dependant.query_params)

        async def guarded(request: Request) -> Response:
            context = request.app.state.context
            principal = await context.keyring.identify(request.headers, guard.scope)
            context.rate.take(principal.id)
            request.state.principal = principal
            queries.check(request, names)
            request.state.body.allow(*context.body_limits[guard.body])
            return await handler(request)

        return guarded


class Keyring:
    """Recognises keys. `check` asks the registry for a key's record by its plain text, or None."""

    def __init__(self, admin_key: str, is_open: bool, check: Callable[[str], Key | None]) -> None:
        self._admin = hashlib.sha256(admin_key.encode()).digest() if admin_key else None
        self._open = is_open
        self._check = check
        self._seen: dict[bytes, tuple[float, Key | None]] = {}  # digest -> (when asked, the answer)

    async def identify(self, headers: Headers, needed: Scope) -> Principal:
        """Who holds the key in these headers; raises `MissingApiKey`, `Unauthorized` or `Forbidden`."""
        given = headers.getlist("authorization") + headers.getlist("x-api-key")
        if not given:
            if self._open and needed < Scope.ADMIN and _from_here(headers):
                return Principal("anonymous", Scope.WRITE)
            raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        principal = await self._holder(self._plain(given, "authorization" in headers))
        if principal.scope < needed:
            raise Forbidden(f"this needs a key of scope {needed.name.lower()}")
        return principal

    def forget(self) -> None:
        """Ask the registry anew about every key: one was made or revoked here."""
        self._seen = {}  # a new one: what is being asked right now is answered into the old one, and forgotten with it

    def _plain(self, given: list[str], bearer: bool) -> str:
        refusal = Unauthorized("this key is not valid")
        if len(given) > 1 or len(given[0]) > _LONGEST:
            raise refusal
        value = given[0].strip()
        if bearer:
            scheme, _, value = value.partition(" ")
            if scheme.lower() != "bearer":
                raise refusal
        value = value.strip()
        if not value or not value.isascii():
            raise refusal
        return value

    async def _holder(self, plain: str) -> Principal:
        digest = hashlib.sha256(plain.encode()).digest()
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return Principal("admin", Scope.ADMIN)
        key = await self._known(plain, digest) if plain.startswith("pk_") else None
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            raise Unauthorized("this key is not valid")
        return Principal(key.id, Scope[key.scope.upper()])

    async def _known(self, plain: str, digest: bytes) -> Key | None:
        """The registry's word, a few seconds old at most, or older while it does not answer: search must go on."""
        now, seen = time.monotonic(), self._seen
        asked, key = seen.get(digest, (-_STALE, None))
        if now - asked < _FRESH:
            return key
        try:
            found = await run_in_threadpool(self._check, plain)
        except RegistryUnavailable:
            if key is not None and now - asked < _STALE:
                return key
            raise
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen[digest] = (now, found)
        return found


def _from_here(headers: Headers) -> bool:
    """Not asked by a page of another site, nor under a name that somebody else made lead to this loopback."""
    return headers.get("sec-fetch-site") != "cross-site" and bool(_LOOPBACK_HOST.fullmatch(headers.get("host", "")))
