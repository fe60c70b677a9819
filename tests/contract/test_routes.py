"""Every route against every kind of key."""

import contextlib
import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from service.app import create_app
from service.auth import get_guard
from service.problems import list_routes
from store.keys import SCOPES, Scope
from store.tables import KeyRow
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, assert_problem, running

OPEN = {
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    *("/session", "/signin", "/signin/callback", "/signout"),  # `test_callers` and `tests.service.test_people`
}  # and the page, `/` and `/static`, which hold no data
ROUTES = [(method, route) for route in list_routes(create_app(None)) for method in sorted(route.methods or ())]
GUARDED = [(method, route) for method, route in ROUTES if route.path not in OPEN]
NAMES = [f"{method} {route.path}" for method, route in GUARDED]
every_route = pytest.mark.parametrize(("method", "route"), GUARDED, ids=NAMES)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture(scope="module")
def refused_keys(service: Service) -> dict[str, dict[str, str]]:
    """Headers with keys that are invalid, or not valid any more."""
    revoked = service.key("admin")
    (id,) = [key["id"] for key in service.admin.get("/v1/admin/keys").json()["items"] if key["id"] in revoked]
    assert service.admin.delete(f"/v1/admin/keys/{id}").status_code == 204
    expired = service.key("admin", expires_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    with service.context.registry.begin() as session:  # nobody has asked with it: it is in no copy of the keys
        over = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(KeyRow).where(KeyRow.id == expired.split("_")[1]).values(expires_at=over))
    keys = {
        "wrong": "pk_000000000000_" + "x" * 43,
        "foreign": "wrong",
        "prefix of the admin key": ADMIN_KEY[:-1],
        "revoked": revoked,
        "expired": expired,
        "another secret": revoked[:-1] + ("a" if revoked[-1] != "a" else "b"),
        "10 kB": "x" * 10_000,
    }
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    headers["empty"] = {"Authorization": "Bearer"}
    headers["empty header"] = {"X-API-Key": ""}
    headers["non-ascii"] = {"X-API-Key": "é".encode()}  # type: ignore[dict-item]
    headers["no scheme"] = {"Authorization": ADMIN_KEY}
    headers["basic"] = {"Authorization": f"Basic {ADMIN_KEY}"}
    headers["two headers"] = {"Authorization": f"Bearer {ADMIN_KEY}", "X-API-Key": ADMIN_KEY}
    return headers


def send(service: Service, method: str, route: APIRoute, headers: dict[str, str]) -> httpx.Response:
    path = route.path.replace("{id}", "x").replace("{number}", "1").replace("{tag}", "cy")
    return service.http.request(method, path, headers=headers)


def test_every_route_declares_its_scope() -> None:
    undeclared = [
        name for name, (_, route) in zip(NAMES, GUARDED, strict=True) if not hasattr(route.endpoint, "__guard__")
    ]
    assert undeclared == []


def test_an_endpoint_that_declares_nothing_is_for_admins() -> None:
    assert get_guard(lambda: None).scope == "admin"


@pytest.mark.row("A1")
@every_route
def test_without_a_key_a_route_says_so(service: Service, method: str, route: APIRoute) -> None:
    assert_problem(send(service, method, route, {}), 401, "missing_api_key")


@pytest.mark.row("A2")
@every_route
def test_an_invalid_key_opens_no_route(
    service: Service, refused_keys: dict[str, dict[str, str]], method: str, route: APIRoute
) -> None:
    for headers in refused_keys.values():
        answer = send(service, method, route, headers)
        assert_problem(answer, 401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.row("A3")
@every_route
def test_a_key_of_a_lower_scope_opens_no_route(service: Service, method: str, route: APIRoute) -> None:
    needed = get_guard(route.endpoint).scope
    for scope in SCOPES:
        answer = send(service, method, route, {"X-API-Key": make_key(service, scope)})
        if SCOPES.index(scope) < SCOPES.index(needed):
            assert_problem(answer, 403, "insufficient_scope")
        else:
            assert answer.status_code not in {401, 403, 500}, answer.text


@pytest.mark.row("A7")
@pytest.mark.parametrize(
    "path", ["/livez%2f..%2fv1%2flanguages", "/livez/../v1/languages", "/V1/languages", "/v1/languages/"]
)
def test_a_disguised_path_is_never_served(service: Service, path: str) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)) as connection:
        connection.request("GET", path)  # as it is: httpx would leave out the dots
        assert connection.getresponse().status in {401, 404}


def test_what_is_open_needs_no_key(service: Service) -> None:
    for path in (*sorted(OPEN - {"/signin", "/signin/callback", "/signout"}), "/"):
        assert service.http.get(path).status_code == 200, path


_KEYS: dict[tuple[int, Scope], str] = {}


def make_key(service: Service, scope: Scope) -> str:
    """Return a valid key of the scope, created once."""
    place = (service.port, scope)
    if place not in _KEYS:
        _KEYS[place] = service.key(scope)
    return _KEYS[place]
