"""The API is what the committed document describes; `python -m scripts.openapi` writes it again."""

import json
from pathlib import Path

from scripts.openapi import PATH, build_contract


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
