"""Every route declares who may use it (who else asks: `test_callers`); the committed document describes the routes."""

import contextlib
import http.client
import json
from pathlib import Path

import pytest

from scripts.openapi import PATH, build_contract
from service.app import create_app
from service.auth import get_guard
from service.problems import list_routes
from tests.patience import PATIENCE
from tests.service.harness import Service, share_service

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


service = share_service()


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


# --- The API is what the committed document describes; `python -m scripts.openapi` writes it again ---


def test_the_committed_document_is_the_served_one() -> None:
    assert json.loads(PATH.read_text(encoding="utf-8")) == build_contract(), "run `python -m scripts.openapi`"


def test_operations_have_short_names_of_their_own() -> None:
    paths = build_contract()["paths"]
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(names) == len(set(names)) and "search_pictures" in names and "put_picture" in names


def test_every_reference_has_a_target() -> None:
    text = json.dumps(build_contract())
    named = set(build_contract()["components"]["schemas"])
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= named


def test_the_document_holds_no_path_of_this_machine() -> None:
    assert str(Path.cwd()) not in json.dumps(build_contract())


def test_the_document_describes_headers_and_answers_without_a_body() -> None:
    paths = build_contract()["paths"]
    teach = paths["/v1/languages"]["post"]
    assert "Location" in teach["responses"]["202"]["headers"]
    parameters = [(parameter["in"], parameter["name"]) for parameter in teach["parameters"]]
    assert parameters == [("header", "Idempotency-Key")]
    for path, operations in paths.items():
        for method, operation in operations.items():
            responses = operation["responses"]
            if path.startswith("/v1"):
                assert all("Retry-After" in responses[status]["headers"] for status in ("429", "503")), path
            assert ("204" in responses) == (method == "delete")
            assert "content" not in responses.get("204", {})
    assert "Retry-After" in paths["/readyz"]["get"]["responses"]["503"]["headers"]


def test_the_document_says_where_a_key_is_needed() -> None:
    keys: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    for path, operations in build_contract()["paths"].items():
        needed = keys if path.startswith("/v1") else [{}, *keys] if path == "/metrics" else None
        assert all(operation.get("security") == needed for operation in operations.values()), path
