"""Every route declares who may use it; who else asks: `test_callers`."""

import contextlib
import http.client
from collections.abc import Iterator

import pytest

from service.app import create_app
from service.auth import get_guard
from service.problems import list_routes
from tests.patience import PATIENCE
from tests.service.harness import Service, running

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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


def test_every_route_declares_its_scope() -> None:
    undeclared = [
        name for name, (_, route) in zip(NAMES, GUARDED, strict=True) if not hasattr(route.endpoint, "__guard__")
    ]
    assert undeclared == []


def test_an_endpoint_that_declares_nothing_is_for_admins() -> None:
    assert get_guard(lambda: None).scope == "admin"


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
