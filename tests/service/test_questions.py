"""Searches that name pictures, a text, what hits should not be like, weights, and words, over HTTP."""

import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.doubles import make_picture_vector, make_text_vector
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, hold_up, motif, picture, running, wait_until

IDS = [f"p{number}" for number in range(8)]
VECTORS = {id: make_picture_vector(motif(number)) for number, id in enumerate(IDS)}
TEXTS = {id: [f"word{number} thing"] for number, id in enumerate(IDS)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Eight pictures with a caption each; the even ones have a tag, the odd ones are in another collection."""
    with running(tmp_path_factory.mktemp("home")) as service:
        for number, id in enumerate(IDS):
            half: dict[str, Any] = {"collection": "odd"} if number % 2 else {"tags": ["even", "黒猫"]}
            record = {"metadata": {"place": "Chur"}, **half}
            assert service.put(id, picture(number), record, en=TEXTS[id]).status_code == 201
        yield service


def ask(service: Service, **question: Any) -> httpx.Response:
    return service.admin.post("/v1/search/pictures", json={"language": "en", "limit": 100, **question})


def list_hits(service: Service, **question: Any) -> list[str]:
    answer = ask(service, **question)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["items"]]


def rank(vector: Any, without: tuple[str, ...] = ()) -> list[str]:
    """Rank slowly and obviously."""
    return sorted((id for id in IDS if id not in without), key=lambda id: -float(VECTORS[id] @ vector))


def test_more_like_a_picture_is_by_its_stored_vector_and_without_itself(service: Service) -> None:
    body = ask(service, picture="p3").json()
    assert [hit["id"] for hit in body["items"]] == rank(VECTORS["p3"], ("p3",))
    assert (body["language"], body["version"]) == (None, None)
    assert [hit["rank"] for hit in body["items"]] == [*range(1, 8)]
    assert all(hit["meaning"] == hit["score"] and hit["words"] is None for hit in body["items"])
    assert_problem(ask(service, picture="unknown"), 404, "picture_not_found")


def test_text_and_pictures_are_weighed_and_what_is_not_wanted_is_taken_away(service: Service) -> None:
    text, other = make_text_vector(0, "a cat"), make_text_vector(0, "a dog")
    vector = 2 * text + 0.5 * VECTORS["p1"] - 0.25 * other - VECTORS["p2"]
    question = {"text": "a cat", "picture": "p1", "minus": {"text": "a dog", "picture": "p2"}}
    weights = {"text": 2, "picture": 0.5, "minus_text": 0.25, "minus_picture": 1}
    body = ask(service, **question, weights=weights).json()
    assert [hit["id"] for hit in body["items"]] == rank(vector, ("p1", "p2"))
    unit = vector / np.linalg.norm(vector)
    assert body["items"][0]["score"] == pytest.approx(float(VECTORS[body["items"][0]["id"]] @ unit), abs=1e-3)
    assert body["language"]["used"] == "en"
    assert list_hits(service, text="a cat", picture="p1", weights={"picture": 0}) == rank(text, ("p1",))
    assert list_hits(service, text="a cat", minus={"text": "a dog"}) == rank(text - 0.5 * other)


def test_the_bytes_of_an_upload_are_dropped_when_they_are_encoded(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture(77)

    def is_held() -> bool:
        return any(
            type(each) is bytes and each == data and each is not data for each in gc.get_referents(*gc.get_objects())
        )

    monkeypatch.setattr(service.context.lanes.filter, "seconds", PATIENCE)
    with ThreadPoolExecutor(1) as threads, hold_up(service.context.selection, "count_facets") as counting:
        answer = threads.submit(service.search_by_picture, data, facets="tags")
        assert counting.acquire(timeout=PATIENCE)
        wait_until(lambda: not is_held())
    assert answer.result().status_code == 200


def test_an_uploaded_picture_may_come_with_a_text(service: Service) -> None:
    def search_by_form(**data: str) -> httpx.Response:
        return service.search_by_picture(picture(3), limit="100", language="en", **data)

    found = search_by_form(text="a cat", minus='{"picture": "p2"}', weights='{"text": 3}').json()
    expected = rank(3 * make_text_vector(0, "a cat") + VECTORS["p3"] - 0.5 * VECTORS["p2"], ("p2",))
    assert [hit["id"] for hit in found["items"]] == expected
    found = search_by_form(text="word5", mode="both").json()["items"]
    assert found[0]["id"] == "p5" and found[0]["words"] == 1.0 and found[0]["meaning"] is not None
    for data, place in (({"mode": "words"}, "body.text"), ({"weights": '{"text": -1}'}, "body.weights.text")):
        assert assert_problem(search_by_form(**data), 422, "invalid_request")["errors"][0]["location"] == place
    assert_problem(search_by_form(minus="{"), 400, "malformed_json")


@pytest.mark.parametrize(
    ("question", "place", "code"),
    [
        ({}, "body.text", "missing"),
        ({"minus": {"text": "x"}}, "body.text", "missing"),
        ({"picture": "p1", "mode": "both"}, "body.text", "missing"),
        ({"text": "x", "picture": "p1", "mode": "words"}, "body.mode", "words_of_a_picture"),
        ({"text": "x", "minus": {"picture": "p1"}, "mode": "words"}, "body.mode", "words_of_a_picture"),
        ({"text": "x", "mode": "all"}, "body.mode", "literal_error"),
        ({"text": "x", "weights": {"text": -0.1}}, "body.weights.text", "greater_than_equal"),
        ({"text": "x", "weights": {"text": 100.5}}, "body.weights.text", "less_than_equal"),
        ({"text": "x", "weights": {"text": 1e400}}, "body.weights.text", "finite_number"),
        ({"text": "x", "weights": {"text": True}}, "body.weights.text", "float_type"),
        ({"text": "x", "weights": {"colour": 1}}, "body.weights.colour", "extra_forbidden"),
        ({"text": "x", "weights": {"text": 0}}, "body.weights", "all_zero"),
        ({"text": "x", "picture": "p1", "weights": {"text": 0, "picture": 0}}, "body.weights", "all_zero"),
        ({"text": "x", "mode": "both", "weights": {"meaning": 0, "words": 0}}, "body.weights", "all_zero"),
        ({"text": "x", "minus": {"text": "x"}, "weights": {"minus_text": 1}}, "body.minus", "nothing_left"),
        ({"text": "x", "picture": "a/../b"}, "body.picture", "picture_id"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_its_place(
    service: Service, question: dict[str, Any], place: str, code: str
) -> None:
    sent = json.dumps(question).replace("Infinity", "1e400").encode()
    answer = service.admin.post("/v1/search/pictures", content=sent, headers={"Content-Type": "application/json"})
    refused = assert_problem(answer, 422, "invalid_request")["errors"]
    assert {"location": place, "code": code} in refused


def test_words_are_found_in_captions_tags_and_metadata(service: Service) -> None:
    assert list_hits(service, text="WORD3 trees", mode="words") == ["p3"]
    assert list_hits(service, text="WORD3 things", mode="words")[0] == "p3"
    assert list_hits(service, text="猫", mode="words") == list_hits(service, text="even", mode="words") == IDS[::2]
    assert sorted(list_hits(service, text="chur", mode="words")) == IDS
    body = ask(service, text="word3 even", mode="words").json()
    assert body["items"][0]["score"] == body["items"][0]["words"] == pytest.approx(0.704, abs=1e-3)
    assert body["items"][0]["meaning"] is None and body["language"] is None and body["truncated"] is False
    assert list_hits(service, text="thing", mode="words", minus={"text": "even"}) == IDS[1::2]
    assert list_hits(service, text="word3 even", mode="words", min_score=0.5) == ["p3"]
    for nothing in ("nowhere", '"$*', "AND"):
        assert list_hits(service, text=nothing, mode="words") == []


def test_what_was_found_by_words_comes_with_the_captions_that_have_them(service: Service) -> None:
    service.learn("cy")
    service.put("ring", cy=["cylch oren", "dim byd"], en=["a ring"], br=["kelc'h oren"]).raise_for_status()

    def find_captions(picture: str, **question: Any) -> Any:
        (hit,) = [hit for hit in ask(service, **question).json()["items"] if hit["id"] == picture]
        return hit["captions"]

    for mode in ("words", "both"):
        assert find_captions("ring", text="OREN", mode=mode) == {"cy": ["cylch oren"], "en": ["a ring"]}  # Breton waits
        assert find_captions("ring", text="ring", mode=mode, language="cy")["en"] == ["a ring"]
    assert find_captions("ring", text="oren", mode="words", captions=["en"]) == {"en": ["a ring"]}
    assert find_captions("ring", text="oren", mode="words", captions="none") == {}
    assert find_captions("ring", text="oren", mode="meaning") == {"en": ["a ring"]}
    assert find_captions("ring", text="oren word3 thing", mode="both") == {"en": ["a ring"]}  # has too few of the words
    service.admin.delete("/v1/pictures/ring").raise_for_status()


def test_both_rankings_are_put_together(service: Service) -> None:
    body = ask(service, text="word3", mode="both").json()["items"]
    assert body[0]["id"] == "p3" and body[0]["words"] == 1.0 and len(body) == len(IDS)
    rest = [hit["id"] for hit in body[1:]]
    assert rest == [id for id in rank(make_text_vector(0, "word3")) if id != "p3"]
    assert all(hit["meaning"] is not None and hit["words"] is None for hit in body[1:])
    assert list_hits(service, text="word3", mode="both", min_score=2) == ["p3"]  # cuts what is found by meaning
    assert list_hits(service, text="word3", mode="both", weights={"words": 0}) == rank(make_text_vector(0, "word3"))
    assert "p3" not in list_hits(service, text="word3", mode="both", picture="p3")


@pytest.mark.parametrize("mode", ["words", "both"])
def test_pages_filters_and_facets_hold_in_every_mode(service: Service, mode: str) -> None:
    odd = {"must": [{"key": "collection", "match": {"value": "odd"}}]}
    question = {"text": "word3 thing", "mode": mode, "filter": odd}
    whole, pages, cursor = list_hits(service, **question), list[str](), None
    assert sorted(whole) == IDS[1::2] and whole[0] == "p3"
    for _ in range(4):
        body = ask(service, **{**question, "limit": 1, "facets": ["collection"]}, cursor=cursor).json()
        assert body["facets"] == {"collection": [{"value": "odd", "count": 4}]}
        pages += [hit["id"] for hit in body["items"]]
        cursor = body["next_cursor"] or cursor
    assert pages == whole and body["next_cursor"] is None
    assert_problem(ask(service, **{**question, "mode": "meaning", "limit": 1}, cursor=cursor), 422, "invalid_cursor")


def test_a_page_of_more_like_this_ends_when_the_picture_is_another(service: Service) -> None:
    service.put("changing", picture(20))
    cursor = ask(service, picture="changing", limit=1).json()["next_cursor"]
    assert ask(service, picture="changing", limit=1, cursor=cursor).status_code == 200
    service.put("changing", picture(21))
    assert_problem(ask(service, picture="changing", limit=1, cursor=cursor), 410, "cursor_expired")
    service.admin.delete("/v1/pictures/changing")


def test_a_new_word_is_found_when_the_answer_of_the_change_arrives(service: Service) -> None:
    assert service.admin.patch("/v1/pictures/p0", json={"metadata": {"note": "Mausoleum"}}).status_code == 200
    assert list_hits(service, text="mausoleum", mode="words") == ["p0"]
    assert service.admin.patch("/v1/pictures/p0", json={"metadata": {"note": None}}).status_code == 200
    assert list_hits(service, text="mausoleum", mode="words") == []
