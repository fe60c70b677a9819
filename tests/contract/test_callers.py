"""Every route × every kind of caller: nobody is let in who should not be, and everybody who should."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import httpx
import pytest

from service.app import build, create_app
from service.auth import get_guard
from service.context import Context
from service.settings import Settings
from tests.contract.test_routes import GUARDED
from tests.doubles import WeightlessEncoder
from tests.registries import make_registry
from tests.service.harness import ADMIN_KEY, picture

ORIGIN, SECRET = "https://pictures.example.org", "a-secret-that-the-proxy-shares"
EVIL = "https://evil.example"
FAR = "far-zebra"  # a picture of another collection; its word is in no answer to a bound caller
_RATE = 10_000_000  # requests per minute
GROUPS: dict[str, dict[str, Any]] = {
    "keepers": {"scope": "admin"},
    "writers": {"scope": "write"},
    "near": {"scope": "write", "collections": ["near"]},
    "readers": {"scope": "search"},
}
Headers = list[tuple[str, str | bytes]]
Scope = Literal["search", "write", "admin"]  # each includes those before it
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Caller:
    """Headers, and what they allow: a scope, perhaps bound to a collection; or `code`, with which all is refused."""

    name: str
    headers: Headers
    scope: Scope | None = None
    code: str = ""
    bound: bool = False
    own_page: bool = True  # without which a person changes nothing
    address: str = "127.0.0.1"

    def find_refusal(self, method: str, needed: Scope, for_bound: bool) -> str:
        """Return the code of the refusal; empty for who is let in."""
        if self.scope is None:
            return self.code
        if not self.own_page and method != "GET":
            return "foreign_origin"
        lower = SCOPES.index(self.scope) < SCOPES.index(needed)
        return "insufficient_scope" if lower or (self.bound and not for_bound) else ""


@dataclass
class Walk:
    """A service within this process, and what was wrong on the way through its routes."""

    context: Context
    app: Any
    wrong: list[str] = field(default_factory=list)
    count: int = 0

    async def ask(self, caller: Caller, method: str, path: str) -> tuple[int, str]:
        """Return the status and the text of the answer; without a client of HTTP, which takes most of the time."""
        headers = [(b"host", b"x"), *((name.lower().encode(), _encode(value)) for name, value in caller.headers)]
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
        scope |= {"query_string": b"", "headers": headers, "client": (caller.address, 1), "scheme": "http"}
        sent: list[Any] = []
        body = iter([{"type": "http.request", "body": b""}])

        async def receive() -> Any:
            return next(body, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app({**scope, "asgi": {"version": "3.0"}, "app": self.app}, receive, send)
        text = b"".join(each.get("body", b"") for each in sent).decode("utf-8", "replace")
        return sent[0]["status"], text

    async def follow(self, caller: Caller) -> None:
        """Ask every route, all at once: those with unknown keys wait for the same readings of the registry."""
        await asyncio.gather(*(self._try(caller, method, route) for method, route in GUARDED))

    async def _try(self, caller: Caller, method: str, route: Any) -> None:
        path = route.path.replace("{id}", FAR if caller.bound else "x").replace("{number}", "1").replace("{tag}", "de")
        status, text = await self.ask(caller, method, path)
        guard = get_guard(route.endpoint)
        code = caller.find_refusal(method, guard.scope, guard.allows_bound_keys)
        shown = json.loads(text)["code"] if status in (401, 403) else ""
        leaks = caller.bound and "zebra" in text
        if shown != code or leaks or status == 500:
            self.wrong.append(f"{caller.name}: {method} {route.path}: {status} {shown}, not {code}")
        self.count += 1


def _encode(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def give_key(key: str, *more: tuple[str, str | bytes]) -> Headers:
    return [("Authorization", f"Bearer {key}"), *more]


def give_cookie(text: str, origin: str | None = ORIGIN) -> Headers:
    return [("Cookie", f"__Host-pictoglot={text}"), *([] if origin is None else [("Origin", origin)])]


def name_person(user: str, groups: str, *more: tuple[str, str | bytes], secret: str | None = SECRET) -> Headers:
    named = [("X-Forwarded-User", user), ("X-Forwarded-Groups", groups), ("Origin", ORIGIN)]
    return [*named, *([] if secret is None else [("X-Proxy-Secret", secret)]), *more]


def make_key(context: Context, scope: Scope, collections: list[str] | None = None, ends: datetime | None = None) -> str:
    return context.keys.create(scope, "a program", ends, collections)[1]


def begin(context: Context, subject: str, *groups: str, seconds: float = 3_600.0, salt: bytes | None = None) -> str:
    kept = context.people.salt(subject) if salt is None else salt
    return context.registry.sessions.begin(subject, "Anna", groups, seconds, kept)


def list_keys(context: Context) -> Iterator[Caller]:
    yield Caller("nobody", [], code="missing_api_key")
    for scope in SCOPES:
        yield Caller(f"a key: {scope}", give_key(make_key(context, scope)), scope)
    bound = make_key(context, "write", ["near"])
    yield Caller("a bound key", give_key(bound), "write", bound=True)
    for scheme in ("Bearer ", "bearer ", "BEARER  "):
        yield Caller(f"the settings' key: {scheme}", [("Authorization", scheme + ADMIN_KEY)], "admin")
    yield Caller("the settings' key in its own header", [("X-API-Key", ADMIN_KEY)], "admin")
    revoked = make_key(context, "admin")
    context.keys.revoke(revoked.split("_")[1])
    wrong = {
        "revoked": revoked,
        "expired": make_key(context, "admin", ends=datetime.now(UTC) - timedelta(seconds=1)),
        "unknown": f"pk_{'0' * 12}_{'x' * 43}",
        "altered": f"{bound[:-1]}!",
        "empty": "",
        "a beginning": ADMIN_KEY[:-1],
        "10 kB": "x" * 10_000,
    }
    for name, key in wrong.items():
        yield Caller(f"a key: {name}", give_key(key), code="invalid_api_key")
    malformed: dict[str, Headers] = {
        "an empty header": [("X-API-Key", "")],
        "not ASCII": [("X-API-Key", "é".encode())],
        "no scheme": [("Authorization", ADMIN_KEY)],
        "another scheme": [("Authorization", f"Basic {ADMIN_KEY}")],
        "two headers": give_key(ADMIN_KEY, ("X-API-Key", ADMIN_KEY)),
    }
    for name, headers in malformed.items():
        yield Caller(f"a key: {name}", headers, code="invalid_api_key")


def list_proxied(context: Context) -> Iterator[Caller]:
    for name, group in GROUPS.items():
        bound, headers = "collections" in group, name_person("anna", f"others, {name}")
        yield Caller(f"proxy: {name}", headers, group["scope"], bound=bound)
        foreign = [each for each in headers if each[0] != "Origin"]
        for origin in (None, EVIL, "null") if name == "keepers" else (EVIL,):
            fields = foreign if origin is None else [*foreign, ("Origin", origin)]
            yield Caller(f"proxy: {name}, {origin}", fields, group["scope"], bound=bound, own_page=False)
    yield Caller("proxy: no group", name_person("anna", "keeper,Keepers,near readers"), code="no_group")
    yield Caller("proxy: first group", name_person("anna", "readers,near"), "write", bound=True)
    yield Caller("proxy: nobody", name_person("", "keepers"), code="missing_api_key")
    yield Caller("proxy, and a key", name_person("anna", "readers", *give_key(ADMIN_KEY)), "admin")
    keeper = name_person("anna", "keepers")
    forged: dict[str, Headers] = {
        "no secret": name_person("anna", "keepers", secret=None),
        "another secret": name_person("anna", "keepers", secret=f"{SECRET[:-1]}x"),
        "empty secret": name_person("anna", "keepers", secret=""),
        "two secrets": [*keeper, ("X-Proxy-Secret", "x")],
        "two users": [*keeper, ("X-Forwarded-User", "eve")],
        "groups twice": [*name_person("anna", "readers"), ("x-forwarded-groups", "keepers")],
        "groups alone": [("X-Forwarded-Groups", "keepers")],
        "a secret alone": [("X-Proxy-Secret", "x")],
        "beside a key": name_person("eve", "keepers", *give_key(make_key(context, "search")), secret=None),
        "beside a session": [
            *name_person("eve", "keepers", secret=None),
            *give_cookie(begin(context, "oidc:1", "near")),
        ],
        "a user with controls": name_person("anna\x1f", "keepers"),
        "a long user": name_person("a" * 256, "keepers"),
    }
    for name, headers in forged.items():
        yield Caller(f"forged: {name}", headers, code="untrusted_proxy")
    for address in ("203.0.113.7", "10.0.0.1", "::ffff:203.0.113.7", "localhost"):
        yield Caller(f"the secret from {address}", keeper, code="untrusted_proxy", address=address)
    yield Caller("the proxy over IPv6", keeper, "admin", address="::ffff:127.0.0.1")
    yield Caller("other names", [("X_Forwarded_User", "anna"), ("X-Auth-Request-User", "anna")], code="missing_api_key")


def list_sessions(context: Context) -> Iterator[Caller]:
    for name, group in GROUPS.items():
        text, bound = begin(context, "oidc:1", name), "collections" in group
        yield Caller(f"session: {name}", give_cookie(text), group["scope"], bound=bound)
        for origin in (
            (None, "null", EVIL, f"{ORIGIN}.x", "http://pictures.example.org") if name == "keepers" else (EVIL,)
        ):
            headers = give_cookie(text, origin)
            yield Caller(f"session: {name}, {origin}", headers, group["scope"], bound=bound, own_page=False)
    yield Caller("session: no group", give_cookie(begin(context, "oidc:1", "nobody")), code="no_group")
    key = make_key(context, "write", ["near"])
    remembered = begin(context, f"key:{key.split('_')[1]}")
    yield Caller("a remembered key", give_cookie(remembered), "write", bound=True)
    yield Caller("the remembered key of the settings", give_cookie(begin(context, "key:admin")), "admin")
    gone = make_key(context, "admin")
    context.keys.revoke(gone.split("_")[1])
    stolen = begin(context, "oidc:1", "keepers")
    context.registry.sessions.end(stolen.split("_")[1])
    good = begin(context, "oidc:1", "keepers")
    other = begin(context, "oidc:1", "readers").split("_", 2)
    over = {
        "stolen, and ended since": stolen,
        "of a key that was revoked": begin(context, f"key:{gone.split('_')[1]}"),
        "of a key that never was": begin(context, "key:000000000000"),
        "of another key of the settings": begin(context, "key:admin", salt=b"another"),
        "of another issuer": begin(context, "oidc:1", "keepers", salt=b"https://issuer.evil.example"),
        "altered": good[:-1] + ("a" if good[-1] != "a" else "b"),
        "with another's secret": f"ps_{good.split('_')[1]}_{other[2]}",
        "made up": f"ps_{'0' * 12}_{'x' * 43}",
        "a key": make_key(context, "admin"),
        "the settings' key": ADMIN_KEY,
        "not ASCII": "ps_é_é",
        "long": "ps_1_" + "x" * 3_000,
        "old": begin(context, "oidc:1", "keepers", seconds=-1.0),
    }
    for name, text in over.items():
        yield Caller(f"cookie: {name}", give_cookie(text), code="session_ended")
    yield Caller("a session as a key", give_key(good), code="invalid_api_key")


KINDS: tuple[Callable[[Context], Iterator[Caller]], ...] = (list_keys, list_proxied, list_sessions)


def run_walk(home: Path, choose: Callable[[Caller], bool] = lambda _: True) -> Walk:
    settings = Settings(
        home=home, port=0, admin_key=ADMIN_KEY, free_bytes=0, public_url=ORIGIN, groups=json.dumps(GROUPS),
        proxy_secret=SECRET, oidc_issuer="https://issuer.example.org", rate_per_minute=_RATE,
    )  # fmt: skip
    make_registry(home / "registry.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.app._INVALID_PER_MINUTE", _RATE)  # nobody is to be refused for asking too often
        walk = Walk(context := build(settings, WeightlessEncoder()), create_app(context))

    async def follow_all() -> None:
        async with walk.app.router.lifespan_context(walk.app):
            form: Any = {"files": {"picture": ("x", picture(1))}, "data": {"collection": "zebra-room"}}
            async with httpx.AsyncClient(transport=httpx.ASGITransport(walk.app), base_url="http://x") as http:
                added = await http.put(f"/v1/pictures/{FAR}", headers={"X-API-Key": ADMIN_KEY}, **form)
            assert added.status_code == 201, added.text
            for caller in [each for kind in KINDS for each in kind(context) if choose(each)]:
                await walk.follow(caller)

    asyncio.run(follow_all())
    return walk


@pytest.mark.row("A1", "A2", "A3")
def test_nobody_is_let_in_who_should_not_be(tmp_path: Path) -> None:
    walk = run_walk(tmp_path)
    assert walk.wrong == []
    assert walk.count > 60 * len(GUARDED)


@pytest.mark.parametrize(
    ("guard", "stub", "about"),
    [
        ("service.people.People.require_own_page", lambda *_: None, "session: near, https://evil.example"),
        ("service.people.People._is_proxy", lambda *_: True, "the secret from 10.0.0.1"),
        ("service.auth.Guard.admit", lambda *_: None, "a bound key"),
        ("store.keys.Session.is_opened_by", lambda *_: True, "cookie: old"),
    ],
    ids=["origin", "address", "scope", "secret"],
)
def test_a_guard_that_is_taken_away_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str, stub: Any, about: str
) -> None:
    monkeypatch.setattr(guard, stub)
    assert len(run_walk(tmp_path, lambda caller: caller.name == about).wrong) > 10
