"""One language over HTTP: its tag by its name."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.test_commands import run
from tests.service.harness import Service, assert_problem, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("br")
        yield service


def suggest(service: Service, query: str) -> list[dict[str, Any]]:
    return list(service.admin.get("/v1/languages/names", params={"query": query, "limit": 5}).json()["items"])


@pytest.mark.parametrize(
    ("query", "tag", "alpha3"),
    [
        ("Breton", "br", "bre"),
        ("br", "br", "bre"),
        ("bre", "br", "bre"),
        (" Bretonisch ", "br", "bre"),
        ("布列塔尼", "br", "bre"),
        ("runasi", "qu", "que"),
        ("x-Kichwa", "x-kichwa", None),
    ],
)
def test_a_language_is_suggested_by_its_name_in_any_language(
    service: Service, query: str, tag: str, alpha3: str | None
) -> None:
    first, *_ = suggest(service, query)
    assert (first["language"], first["iso639_3"], first["served"]) == (tag, alpha3, tag == "br")


def test_suggestions_are_few_and_nonsense_has_none(service: Service) -> None:
    found = suggest(service, "quechua")
    assert len({each["language"] for each in found}) == len(found) == 5 and found[0]["language"] == "qu"
    assert suggest(service, "qwrtzp") == suggest(service, "  ") == []


def test_a_tag_is_found_by_the_name_of_the_language(service: Service) -> None:
    asked = service.admin.get("/v1/languages/names", params={"query": "brezhoneg", "limit": 3})
    first = {"language": "br", "name": "Breton", "native_name": "brezhoneg", "direction": "ltr"}
    assert asked.json()["items"][0] == {**first, "matched": "brezhoneg", "iso639_3": "bre", "served": True}
    for wrong in ("", "?query=", "?query=" + "a" * 101):
        assert_problem(service.admin.get(f"/v1/languages/names{wrong}"), 422, "invalid_request")
    assert run(service, "languages", "--find", "gwenedeg").exit_code == 0
    assert run(service, "languages", "--find", "Welsh").stdout.splitlines()[1] == "cy\tWelsh\tCymraeg\tcym\twelsh"
