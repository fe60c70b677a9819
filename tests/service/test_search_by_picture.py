"""Searches with a picture: what is found, and how the fields beside it are read."""

from typing import Any

import pytest

from tests.service.harness import Service, assert_problem, picture


def test_a_picture_finds_itself_first(service: Service) -> None:
    answer = service.admin.post("/v1/search/pictures", files={"picture": ("x", picture(sum(b"p0")))})
    assert answer.json()["items"][0]["id"] == "p0"
    assert answer.json()["language"] is None


@pytest.mark.parametrize(
    ("language", "status", "code"),
    [("xx-", 422, "language_tag_invalid"), ("cy", 404, "language_not_found"), ("de", 200, None), ("shared", 200, None)],
)
def test_a_language_named_beside_a_picture_has_to_be_served(
    service: Service, language: str, status: int, code: str | None
) -> None:
    files = {"picture": ("x", picture())}
    answer = service.admin.post("/v1/search/pictures", files=files, data={"language": language})
    if code is None:
        assert answer.status_code == status
    else:
        assert_problem(answer, status, code)


@pytest.mark.parametrize(
    ("fields", "languages"),
    [
        ({}, {"en"}),
        ({"language": "de"}, {"de", "en"}),
        ({"captions": "all"}, {"de", "en"}),
        ({"captions": "none"}, set()),
        ({"captions": ["de", "en"]}, {"de", "en"}),
        ({"captions": "de,en"}, {"de", "en"}),
        ({"captions": '["de"]'}, {"de"}),
    ],
)
def test_captions_of_similar_pictures_come_as_requested(
    service: Service, fields: dict[str, Any], languages: set[str]
) -> None:
    files = {"picture": ("x", picture(sum(b"p0")))}
    items = service.admin.post("/v1/search/pictures", files=files, data=fields).json()["items"]
    assert {tag for item in items for tag in item["captions"]} == languages


@pytest.mark.parametrize("captions", ['["de", 1]', "[", ""])
def test_malformed_caption_languages_of_a_form_are_refused(service: Service, captions: str) -> None:
    files = {"picture": ("x", picture())}
    answer = service.admin.post("/v1/search/pictures", files=files, data={"captions": captions})
    assert answer.status_code == 422


@pytest.mark.parametrize("limit", ["5.0", "+5", " 5", "1_0", "0", "101", "", "x"])
def test_the_numbers_of_a_form_are_digits(service: Service, limit: str) -> None:
    for path in ("/v1/search/pictures", "/v1/search/captions"):
        answer = service.admin.post(path, files={"picture": ("x", picture())}, data={"limit": limit})
        body = assert_problem(answer, 422, "invalid_request")
        assert [place["location"] for place in body["errors"]] == ["body.limit"]


@pytest.mark.parametrize(("score", "status"), [("0.25", 200), ("-1", 200), ("1e-3", 200), ("inf", 422), (" 1", 422)])
def test_the_least_score_of_a_form_is_a_number(service: Service, score: str, status: int) -> None:
    answer = service.admin.post("/v1/search/pictures", files={"picture": ("x", picture())}, data={"min_score": score})
    assert answer.status_code == status


def test_a_duplicate_field_of_a_form_is_named(service: Service) -> None:
    data = {"limit": ["1", "2"]}
    answer = service.admin.post("/v1/search/pictures", files={"picture": ("x", picture())}, data=data)
    assert assert_problem(answer, 422, "invalid_request")["errors"][0]["location"] == "body.limit"
