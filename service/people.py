"""Who sends a request, and how often: by a key, a proxy that vouches for them, a session of a browser; or nobody."""

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from index.records import DEFAULT_COLLECTION
from service.lanes import Lane
from service.problems import (
    ForeignOrigin,
    InvalidApiKey,
    MissingApiKey,
    NoGroup,
    RateLimited,
    SessionEnded,
    UntrustedProxy,
)
from service.requests import READING
from service.settings import EVERYBODY, Settings
from store.errors import InsufficientScope, RegistryUnavailable
from store.keys import ApiKey, Scope, Session, parse_key_id

ADMIN = "admin"  # the id of the key of the settings, which no other key has
PROXY_SECRET_HEADER = "X-Proxy-Secret"
SECURE_COOKIE, LOOPBACK_COOKIE = "__Host-pictoglot", "pictoglot"  # no other host can set the first
_FRESH_SECONDS = 5.0  # how long the copy of the keys is used without asking the registry
_STALE_SECONDS = 3_600.0  # the same while the registry does not answer
_PAUSE_SECONDS = 0.1  # between two readings of the keys
_PAUSES = 20  # times a reading's own length
_WAIT_SECONDS = 0.25  # for a newer copy, with a key that the copy has
_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)
_SUBJECT = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")

UNAUTHENTICATED = "unauthenticated"  # the rate of all requests without a valid key together; no key has this id
_MAX_BUCKETS = 10_000  # keys whose rate is counted; with more, all counts start again

K = TypeVar("K", ApiKey, Session)


@dataclass(frozen=True)
class Principal:
    """Who sends a request: the id of a key, `admin` for the settings' one, `proxy:USER`, `oidc:SUBJECT`, `anonymous`.

    It sees only its `collections`; None for everything. What it adds without naming a collection goes to
    `default_collection`. The log calls it by its `label`. `by` is what it was known by.
    """

    id: str
    scope: Scope
    collections: frozenset[str] | None = None
    default_collection: str = DEFAULT_COLLECTION
    label: str = ""
    by: Literal["key", "proxy", "session", "open"] = "key"

    def require_access(self, collection: str | None) -> None:
        """Raise `InsufficientScope` unless this caller may write into a collection, which need not exist; None: any."""
        bound = self.collections
        if collection is not None and bound is not None and collection.casefold() not in map(str.casefold, bound):
            raise InsufficientScope("you may not write into this collection")


class People:
    """The ways to know who sends a request. What it was known by decides, in this order: key, proxy, session.

    `read` lists all keys and sessions. `count_invalid` is called for each request from nobody, and raises `RateLimited`
    when there are too many.
    """

    def __init__(
        self,
        settings: Settings,
        admin_key: str,
        read: Callable[[], Sequence[ApiKey | Session]],
        count_invalid: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._count_invalid = settings, count_invalid
        self._admin = hashlib.sha256((admin_key or secrets.token_hex()).encode()).digest()
        self._proxies = settings.proxy_networks
        self.keyring = Keyring(read)

    async def identify(self, request: Request) -> Principal:
        """Return who sends a request; raises what `find` does, and `RateLimited`."""
        try:
            return await self.find(request)
        except InvalidApiKey:  # and the more exact ones
            self._count_invalid()
            raise

    async def find(self, request: Request) -> Principal:
        """Return who sends a request, however often nobody asked.

        Raises `MissingApiKey`, `InvalidApiKey`, `UntrustedProxy`, `SessionEnded`, `ForeignOrigin`, `NoGroup`,
        `RegistryUnavailable`.
        """
        headers = request.headers
        person = self._read_proxy(request)  # first: a forged header is refused, whatever comes with it
        if values := headers.getlist("authorization") + headers.getlist("x-api-key"):
            plain = _read_key(values, "authorization" in headers)
            if hmac.compare_digest(hashlib.sha256(plain.encode()).digest(), self._admin):
                return Principal(ADMIN, "admin")
            key = await self.keyring.find(parse_key_id(plain), ApiKey)
            if key is None or not key.is_opened_by(plain):
                raise InvalidApiKey("this key is not valid")
            return _describe_key(key)
        if person is not None:
            self.require_own_page(request)
            user, groups = person
            return self.admit(f"proxy:{user}", user, groups, "proxy")
        if (session := await self.find_session(request)) is not None:
            return await self._describe_session(session)
        if self._settings.open and _is_local(headers):
            return Principal("anonymous", "write", by="open")
        if self._read_cookie(request):
            raise SessionEnded("this session is over: sign in again, or send a key")
        raise MissingApiKey("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")

    async def can_see_all(self, request: Request) -> bool:
        """Tell whether the sender may see all collections, or the service needs no key.

        A key that is missing, invalid or cannot be read now only sees less: a health check has to be answered.
        """
        try:
            return (await self.find(request)).collections is None
        except (InvalidApiKey, InsufficientScope, RegistryUnavailable):
            return False

    async def find_session(self, request: Request) -> Session | None:
        """Return the session of the browser; None without one that is valid. Raises `ForeignOrigin`."""
        plain = self._read_cookie(request)
        session = await self.keyring.find(parse_key_id(plain, "ps"), Session) if plain else None
        if session is None or not session.is_opened_by(plain, self.salt(session.subject)):
            return None
        self.require_own_page(request)
        return session

    def salt(self, subject: str) -> bytes:
        """Return what the secret of a session is stored with: when the settings' key or issuer change, theirs end."""
        if subject.startswith("oidc:"):
            return self._settings.oidc_issuer.encode() or self._admin
        return self._admin if subject == f"key:{ADMIN}" else b""

    def require_own_page(self, request: Request) -> None:
        """Raise `ForeignOrigin` for what another site's page may have sent with a person's cookie, but for reading."""
        if request.method in READING:
            return
        origin, headers = request.headers.get("origin", ""), request.headers
        if own := self._settings.public_url:
            is_own = origin == own
        else:  # the browser tells, and over plain HTTP only by the address
            is_own = headers.get("sec-fetch-site") == "same-origin" or (
                bool(origin) and urlsplit(origin).netloc == headers.get("host")
            )
        if not is_own:
            raise ForeignOrigin("a page under another address than this service's may change nothing")

    def choose_cookie(self, request: Request) -> str:
        """Return the name of the cookie that the sending page may get; only one on a loopback does without TLS."""
        return _name_cookie(self._settings.public_url or request.headers.get("origin", ""))

    def _read_cookie(self, request: Request) -> str:
        """Return what the browser keeps; on a loopback alone under a name that other hosts of a domain can set, too."""
        address = self._settings.public_url or f"http://{request.headers.get('host', '')}"
        return request.cookies.get(SECURE_COOKIE) or request.cookies.get(_name_cookie(address)) or ""

    def admit(
        self, subject: str, label: str, groups: Iterable[str], known_by: Literal["proxy", "session"]
    ) -> Principal:
        """Return what a person of these groups may do. Raises `NoGroup`."""
        groups = {*groups, EVERYBODY}
        group = next((group for name, group in self._settings.groups.items() if name in groups), None)
        if group is None:
            raise NoGroup("this person is in none of the groups of PICTOGLOT_GROUPS")
        own = _choose_collection(group.collections, group.default_collection)
        bound = None if group.collections is None else frozenset(group.collections)
        return Principal(subject, group.scope, bound, own, label, known_by)

    async def _describe_session(self, session: Session) -> Principal:
        kind, _, name = session.subject.partition(":")
        if kind != "key":
            return self.admit(session.subject, session.label, session.groups, "session")
        if name == ADMIN:
            return Principal(ADMIN, "admin", by="session")
        key = await self.keyring.find(name, ApiKey)
        if key is None or key.is_over:
            raise SessionEnded("the key that this browser remembered is not valid any more")
        return _describe_key(key, "session")

    def _read_proxy(self, request: Request) -> tuple[str, list[str]] | None:
        """Return the user whom a proxy names, and the groups; None where no header does. Raises `UntrustedProxy`."""
        if not (secret := self._settings.proxy_secret):
            return None
        names = PROXY_SECRET_HEADER, self._settings.proxy_user_header, self._settings.proxy_groups_header
        sent = [request.headers.getlist(name) for name in names]
        if not any(sent):
            return None
        proof, user, groups = (
            values[0].encode("latin-1").decode("utf-8", "replace") if values else "" for values in sent
        )
        is_secret = hmac.compare_digest(proof.encode(), secret.encode())
        if not (is_secret and max(map(len, sent)) == 1 and self._is_proxy(request) and is_subject(user or "-")):
            raise UntrustedProxy("headers that name a person are taken from the proxy alone")
        return (user, [each.strip() for each in groups.split(",")]) if user else None

    def _is_proxy(self, request: Request) -> bool:
        try:
            address = ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._proxies)


class Keyring:
    """All keys and sessions, as a copy of the registry's that `read` makes and that is seconds old at most.

    An id that the copy lacks waits for the next reading, which all such requests share: guesses, however many, cause
    ten readings a second and take a twentieth of a core at most, and no valid key is refused because of them. A key
    that the copy has does not wait for a registry that hangs.
    """

    def __init__(self, read: Callable[[], Sequence[ApiKey | Session]]) -> None:
        self._read = read
        self._lane = Lane("keys", 1)  # of its own: no key waits for what other requests do
        self._known: dict[str, ApiKey | Session] = {}  # by id; those that are not valid too: they cause no reading
        self._revoked: set[str] = set()  # ids revoked here, whatever a reading says that began before
        self._read_at = self._tried_at = -math.inf  # when the last reading began that ended well, and the last of all
        self._pause = _PAUSE_SECONDS  # between two readings: longer where there are so many keys that one takes long
        self._reading: asyncio.Task[None] | None = None

    def revoke(self, id: str) -> None:
        """Refuse the key or session with this id from now on."""
        self._revoked.add(id)

    async def find(self, id: str | None, kind: type[K]) -> K | None:
        """Return the key or session with this id, valid or not, unless it was revoked here.

        While the registry does not answer, it is that of an older copy: searches go on. Raises `RegistryUnavailable`.
        """
        if id is None:
            return None
        now = time.monotonic()
        if id not in self._known:
            await self._read_after(now)
        elif now - self._tried_at >= _FRESH_SECONDS:
            try:
                await asyncio.wait_for(self._read_after(now), _WAIT_SECONDS)
            except (RegistryUnavailable, TimeoutError):
                self._tried_at = now  # the next requests do not wait again
        if now - self._read_at >= _STALE_SECONDS:
            raise RegistryUnavailable
        found = self._known.get(id)
        return found if isinstance(found, kind) and id not in self._revoked else None

    async def _read_after(self, now: float) -> None:
        """Wait for a reading that begins now or later; when a client leaves, the others wait on."""
        while self._read_at < now:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_once())
                # a fault is nobody's where all who asked have left
                self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())
            await asyncio.shield(self._reading)

    async def _read_once(self) -> None:
        try:
            await asyncio.sleep(self._tried_at + self._pause - time.monotonic())
            began = self._tried_at = time.monotonic()
            keys = await self._lane.run(self._read)
            self._pause = max(_PAUSE_SECONDS, _PAUSES * (time.monotonic() - began))
            self._known, self._read_at = {key.id: key for key in keys}, began
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
        self._spend(key, cost=1, needed_tokens=1)

    def owe(self, key: str, cost: int) -> None:
        """Count `cost` more for a request that was taken; later ones wait until it is paid, however much it is.

        Raises `RateLimited` while `key` owes for another request.
        """
        self._spend(key, cost, needed_tokens=0)

    def list_headers(self, key: str) -> list[tuple[bytes, bytes]]:
        """List the headers `RateLimit-*` of the IETF: what `key` may send at once, and seconds until all is back."""
        tokens = self._count_tokens(key, self._clock())
        reset = math.ceil((self._burst - tokens) / self._per_second)
        limits = (b"limit", self._burst), (b"remaining", max(0.0, tokens)), (b"reset", reset)
        return [(b"ratelimit-" + name, b"%d" % number) for name, number in limits]

    def _count_tokens(self, key: str, now: float) -> float:
        tokens, counted = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - counted) * self._per_second)

    def _spend(self, key: str, cost: int, needed_tokens: int) -> None:
        now = self._clock()
        tokens = self._count_tokens(key, now)
        if tokens < needed_tokens:
            self._buckets[key] = (tokens, now)
            wait = math.ceil((needed_tokens - tokens) / self._per_second)
            raise RateLimited("too many requests", retry_after_seconds=wait)
        if len(self._buckets) >= _MAX_BUCKETS:
            self._buckets.clear()
        self._buckets[key] = (tokens - cost, now)


def is_subject(text: object) -> bool:
    """Tell whether this can name a person in the audit log."""
    return isinstance(text, str) and _SUBJECT.fullmatch(text) is not None


def _describe_key(key: ApiKey, known_by: Literal["key", "session"] = "key") -> Principal:
    bound = None if key.collections is None else frozenset(key.collections)
    return Principal(key.id, key.scope, bound, _choose_collection(key.collections), key.label, known_by)


def _choose_collection(bound: Sequence[str] | None, chosen: str | None = None) -> str:
    """Choose the collection of what a caller adds without naming one."""
    return chosen or (DEFAULT_COLLECTION if bound is None or DEFAULT_COLLECTION in bound else bound[0])


def _name_cookie(address: str) -> str:
    scheme, _, host = address.partition("://")
    return LOOPBACK_COOKIE if scheme == "http" and _LOOPBACK_HOST.fullmatch(host) else SECURE_COOKIE


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
