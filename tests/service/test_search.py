"""Searches by text and by picture: what is found, and how what is sent is read."""

import time
import unicodedata
from typing import Any

import pytest

from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, running

ZALGO = "a" + "\u0301" * 999  # a thousand accents


@pytest.mark.row("T1", "T2", "T3", "T12", "T13")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_text"),
        ("  \u00a0\u3000", "empty_text"),
        ("\u200b\u200d\ufeff", "empty_text"),
        ("…!?", "empty_text"),
        ("\u202e", "empty_text"),
        ("\x00", "text_invalid_unicode"),
        ("a\x07b", "text_invalid_unicode"),
        ("a\uffff", "text_invalid_unicode"),
        ("a\ufdd0", "text_invalid_unicode"),
        *((f"a{bad}", "text_invalid_unicode") for bad in ("\x9f", "\x1c", "\U0001ffff", "\x85\x00")),
        ("a" * 1_001, "text_too_long"),
        ("a " * 4_000, "text_too_long"),
        ("a" + "\u0315\u0300" * 16_000, "text_too_long"),  # whose accents NFC sorts, in the square of their number
    ],
)
def test_a_text_that_cannot_be_read_is_refused_quickly(service: Service, text: str, code: str) -> None:
    with assert_state_unchanged(service):
        started = time.process_time()
        assert_problem(service.search(text), 422, code)
        assert time.process_time() - started < 0.5  # 50 ms, with the client in the same process


@pytest.mark.row("T11")
def test_a_lone_surrogate_is_refused(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    answer = service.admin.post("/v1/search/pictures", content=b'{"text": "\\ud800"}', headers=headers)
    assert_problem(answer, 422, "text_invalid_unicode")


# Hindi's letters with a dot below are decomposed in both normal forms, so their composed form is sent as it is typed.
@pytest.mark.row("T5")
@pytest.mark.parametrize("text", ["tiếng Việt", "한국", "\u0958लम", "café"])
def test_both_normal_forms_of_a_query_get_one_answer(service: Service, text: str) -> None:
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    if composed == decomposed:
        composed = text
    assert composed != decomposed
    first, second = service.search(composed).json(), service.search(decomposed).json()
    assert first["items"] == second["items"]


@pytest.mark.row("T6")
@pytest.mark.parametrize("text", ["قطة", "חתול cat", "بلی"])
def test_bidi_controls_make_no_difference(service: Service, text: str) -> None:
    assert service.search(text).json()["items"] == service.search(f"\u202b{text}\u202c").json()["items"]


@pytest.mark.row("T7")
@pytest.mark.parametrize(("kept", "dropped"), [("می‌خواهم", "میخواهم"), ("👨‍👩‍👧", "👨👩👧"), ("❤️", "❤")])
def test_joiners_and_variation_selectors_are_kept(service: Service, kept: str, dropped: str) -> None:
    assert service.search(kept).json()["items"] != service.search(dropped).json()["items"]


@pytest.mark.row("T8")
@pytest.mark.parametrize("text", ["ⵜⴰⴼⵓⴽⵜ", "ᏣᎳᎩ", "ߒߞߏ"])
def test_a_script_that_was_never_learned_is_answered_with_a_warning(service: Service, text: str) -> None:
    answer = service.search(text)
    assert answer.status_code == 200
    assert answer.json()["warnings"] == ["language_not_supported"]
    assert answer.json()["language"]["used"] == "shared"


@pytest.mark.row("T9")
def test_a_language_that_is_not_served_is_not_found_and_available_ones_are_listed(service: Service) -> None:
    for answer in (
        service.search("cath", language="cy"),
        service.search("cat", captions=["cy"]),
        service.search_by_picture(language="cy"),
    ):
        body = assert_problem(answer, 404, "language_not_found")
        assert body["languages"] == ["de", "en"] and "de, en" in body["detail"]


def test_a_kind_of_a_language_is_read_by_that_language(service: Service) -> None:
    german, austrian = (service.search("roter Apfel", language=tag).json() for tag in ("de", "de-AT"))
    assert austrian["items"] == german["items"] and austrian["version"] == german["version"]
    language = austrian["language"]
    assert (language["requested"], language["used"], language["source"]) == ("de-AT", "de", "requested")
    assert service.search("a red apple", language="en-GB").json()["language"]["used"] == "en"


@pytest.mark.row("T10")
@pytest.mark.parametrize(
    "tag",
    [
        *("en_US", "xx-", "xx", "a" * 200, "../", "", "e", "en--us", "und-x", "en us", "日本", "x", "x-", "zzz-"),
        *("x-toolongapart", "und", "mul", "zxx", "MUL", "mul-Latn"),
    ],
)
def test_a_malformed_tag_is_refused(service: Service, tag: str) -> None:
    assert_problem(service.search("cat", language=tag), 422, "language_tag_invalid")
    for name in ("captions", "language"):
        assert_problem(service.search_by_picture(**{name: tag}), 422, "language_tag_invalid")


@pytest.mark.row("T15")
def test_a_truncated_query_is_reported(service: Service) -> None:
    assert service.search("မ" * 60).json()["truncated"] is True
    assert service.search("a red apple").json()["truncated"] is False


@pytest.mark.row("T4", "T14", "T17")
@pytest.mark.parametrize(
    "text", [ZALGO, "\u0301" * 3, "\u202eelppa", "аpple", "<b>x</b>", "'\"; DROP TABLE", "${jndi:ldap://x}", "{{7*7}}"]
)
def test_hostile_looking_text_is_only_text(service: Service, text: str) -> None:
    with assert_state_unchanged(service):
        assert service.search(text, mode="both").status_code == 200


@pytest.mark.row("T18", "H3")
@pytest.mark.parametrize(
    ("field", "literals", "status", "code"),
    [
        ("limit", '0 -1 101 2147483648 5.0 "5" true null 1e999 ' + "9" * 5_000, 422, "invalid_request"),
        ("min_score", "NaN Infinity -Infinity", 400, "malformed_json"),  # outside of JSON
    ],
    ids=["bounds", "no JSON"],
)
def test_a_number_out_of_its_bounds_is_refused(
    service: Service, field: str, literals: str, status: int, code: str
) -> None:
    for literal in literals.split():
        body = f'{{"text": "cat", "{field}": {literal}}}'
        headers = {"Content-Type": "application/json"}
        assert_problem(service.admin.post("/v1/search/pictures", content=body, headers=headers), status, code)


@pytest.mark.row("T19")
def test_a_limit_above_the_gallery_gives_all_of_it(service: Service) -> None:
    items = service.search("cat", limit=100).json()["items"]
    assert sorted(item["id"] for item in items) == ["p0", "p1", "p9"]
    assert [item["rank"] for item in items] == [1, 2, 3]


@pytest.mark.row("T20")
def test_an_empty_gallery_gives_an_empty_list(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("home")) as empty:
        answer = empty.search("cat")
        assert answer.status_code == 200
        assert answer.json()["items"] == []
        assert empty.admin.get("/v1/pictures").json() == {"items": [], "next_cursor": None}


def test_the_best_score_comes_first_and_min_score_cuts(service: Service) -> None:
    items = service.search("cat", mode="meaning").json()["items"]
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    cut = service.search("cat", mode="meaning", min_score=items[1]["score"]).json()["items"]
    assert cut == items[:2]


@pytest.mark.parametrize(("tag", "source"), [("de", "requested"), ("shared", "shared")])
def test_a_language_that_is_named_is_encoded_by_its_own_version(service: Service, tag: str, source: str) -> None:
    answer = service.search("ein roter Apfel", language=tag).json()
    assert answer["language"] == {"requested": tag, "used": tag, "source": source, "confidence": None}
    assert answer["version"] == 1


def test_a_detected_language_is_encoded_by_its_own_version(service: Service) -> None:
    answer = service.search("ein roter Apfel").json()
    assert answer["language"]["used"] == "de"
    assert answer["language"]["source"] == "detected"
    assert answer["language"]["confidence"] > 0.5


def test_hits_carry_their_captions_by_language(service: Service) -> None:
    items = {item["id"]: item for item in service.search("cat", captions="all").json()["items"]}
    assert items["p0"]["captions"] == {"en": ["a red apple"], "de": ["ein roter Apfel"]}
    assert items["p9"]["captions"] == {"en": ["a blue car on the road"]}


def test_a_cursor_is_refused_for_another_query(service: Service) -> None:
    cursor = service.search("cat", limit=1).json()["next_cursor"]
    assert_problem(service.search("dog", limit=1, cursor=cursor), 422, "invalid_cursor")
    assert_problem(service.search("cat", limit=1, cursor="forged"), 422, "invalid_cursor")
    assert_problem(service.search("cat", limit=1, cursor="é"), 422, "invalid_cursor")


def test_a_page_beyond_the_deepest_rank_is_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.ranking.DEEPEST_RANK", 2)
    cursor = service.search("cat", limit=1).json()["next_cursor"]
    second = service.search("cat", limit=1, cursor=cursor).json()
    assert [item["rank"] for item in second["items"]] == [2]
    with assert_state_unchanged(service):
        assert_problem(service.search("cat", limit=2, cursor=cursor), 422, "page_too_deep")
        assert_problem(service.search("cat", limit=1, cursor=second["next_cursor"]), 422, "page_too_deep")


def test_a_cursor_expires_with_its_release(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("home")) as other:
        other.put("a", en=["a cat"])
        other.put("bb", en=["a dog"])
        cursor = other.search("cat", language="en", limit=1).json()["next_cursor"]
        other.learn("cy")
        assert_problem(other.search("cat", language="en", limit=1, cursor=cursor), 410, "cursor_expired")


@pytest.mark.parametrize(
    ("body", "languages"),
    [
        ({"language": "de"}, {"de", "en"}),
        ({"language": "en"}, {"en"}),
        ({"language": "shared"}, {"en"}),
        ({"captions": "all"}, {"de", "en"}),
        ({"captions": "none"}, set()),
        ({"captions": ["de"]}, {"de"}),
        ({"captions": ["DE", "de"], "language": "en"}, {"de"}),
    ],
)
def test_captions_come_in_the_language_used_and_english_or_as_requested(
    service: Service, body: dict[str, object], languages: set[str]
) -> None:
    items = service.search("roter Apfel", mode="meaning", **body).json()["items"]
    assert {tag for item in items for tag in item["captions"]} == languages


@pytest.mark.parametrize("captions", ["some", [], ["de", 1], 7, "de"])
def test_malformed_caption_languages_are_refused(service: Service, captions: object) -> None:
    assert_problem(service.search("cat", captions=captions), 422, "invalid_request")


def test_a_picture_finds_itself_first(service: Service) -> None:
    answer = service.search_by_picture(picture(sum(b"p0")))
    assert answer.json()["items"][0]["id"] == "p0"
    assert answer.json()["language"] is None


@pytest.mark.parametrize(
    ("fields", "languages"),
    [
        ({}, {"en"}),
        ({"captions": "all"}, {"de", "en"}),
        ({"captions": ["de", "en"]}, {"de", "en"}),
        ({"captions": "de,en"}, {"de", "en"}),
        ({"captions": '["de"]'}, {"de"}),
    ],
)
def test_captions_of_similar_pictures_come_as_requested(
    service: Service, fields: dict[str, Any], languages: set[str]
) -> None:
    items = service.search_by_picture(picture(sum(b"p0")), **fields).json()["items"]
    assert {tag for item in items for tag in item["captions"]} == languages


@pytest.mark.parametrize("limit", ["5.0", "+5", " 5", "1_0", "0", "101", "", "x"])
def test_the_numbers_of_a_form_are_digits(service: Service, limit: str) -> None:
    for path in ("/v1/search/pictures", "/v1/search/captions"):
        answer = service.admin.post(path, files={"picture": ("x", picture())}, data={"limit": limit})
        body = assert_problem(answer, 422, "invalid_request")
        assert [place["location"] for place in body["errors"]] == ["body.limit"]


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"limit": ["1", "2"]}, "body.limit"),
        ({"min_score": "inf"}, "body.min_score"),
        ({"min_score": " 1"}, "body.min_score"),
        *(({"captions": tags}, "body.captions") for tags in ('["de", 1]', "[")),
    ],
)
def test_a_malformed_field_of_a_form_is_named(service: Service, fields: dict[str, Any], location: str) -> None:
    refused = assert_problem(service.search_by_picture(**fields), 422, "invalid_request")
    assert refused["errors"][0]["location"] == location


@pytest.mark.parametrize("score", ["0.25", "-1", "1e-3"])
def test_the_least_score_of_a_form_is_a_number(service: Service, score: str) -> None:
    assert service.search_by_picture(min_score=score).status_code == 200
