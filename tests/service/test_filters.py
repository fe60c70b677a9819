"""Filters and facets in searches and in the listing, over HTTP; what they mean: tests/index/test_selection.py."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from service import lanes
from tests.index.conftest import make_match
from tests.patience import PATIENCE, bound_time
from tests.service.harness import Service, assert_problem, picture, running, wait_until

OLD = {"must": [{"key": "year", "range": {"lt": 1950}}]}
BRIDGES = {"must": [{"key": "tags", "match": {"value": "bridge"}}]}
EVERYTHING = [f"p{number}" for number in range(6)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Six pictures: even ones of bridges, in two collections, a decade apart."""
    with running(tmp_path_factory.mktemp("home")) as service:
        for number, id in enumerate(EVERYTHING):
            record = {
                "collection": "late" if number > 3 else "early",
                "tags": ["bridge"] if number % 2 == 0 else ["road", "river"],
                "metadata": {"year": 1930 + 10 * number, "place": "Chur"},
            }
            assert service.put(id, picture(number), record).status_code == 201
        yield service


def search_ids(service: Service, **more: Any) -> list[str]:
    answer = service.search("anything", language="en", limit=100, **more)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["items"]]


def list_ids(service: Service, **query: Any) -> list[str]:
    return [item["id"] for item in service.list_all("/v1/pictures", **{"limit": 2, **query})]


@pytest.mark.parametrize(
    ("asked", "left"),
    [({}, EVERYTHING), (OLD, ["p0", "p1"]), (BRIDGES, ["p0", "p2", "p4"]), ({"must": [OLD, BRIDGES]}, ["p0"])],
)
def test_hits_and_listing_are_what_a_filter_leaves(service: Service, asked: dict[str, Any], left: list[str]) -> None:
    ranking = [id for id in search_ids(service) if id in left]
    assert search_ids(service, filter=asked) == ranking and sorted(ranking) == left
    form = {"filter": json.dumps(asked), "limit": "100", "facets": "tags"}
    answer = service.search_by_picture(picture(2), **form).json()
    assert {hit["id"] for hit in answer["items"]} == {*left}
    assert sum(each["count"] for each in answer["facets"]["tags"] if each["value"] in ("bridge", "road")) == len(left)
    assert list_ids(service, filter=json.dumps(asked)) == left
    assert list_ids(service, filter=json.dumps(asked), sort="-created_at") == left[::-1]
    assert list_ids(service, collection="late", filter=json.dumps(asked)) == [id for id in left if id in ("p4", "p5")]


def test_captions_are_of_pictures_that_a_filter_leaves(service: Service) -> None:
    def find_captions(tag: str) -> list[list[str]]:
        filter = {"must": [{"key": "tags", "match": {"value": tag}}]}
        url, upload = "/v1/search/captions", {"picture": ("x", picture(1))}
        answers = (
            service.admin.post(url, json={"picture": "c1", "filter": filter}),
            service.admin.post(url, files=upload, data={"filter": json.dumps(filter), "languages": "en"}),
        )
        return [sorted(hit["caption"] for hit in answer.json()["items"]) for answer in answers]

    for id, tag, caption in (("c1", "x", "one"), ("c2", "y", "two"), ("c3", "x", "three")):
        assert service.put(id, record={"tags": [tag]}, en=[caption]).status_code == 201
    assert [find_captions(tag) for tag in "xyz"] == [[["one", "three"]] * 2, [["two"]] * 2, [[], []]]
    refused = service.admin.post("/v1/search/captions", json={"picture": "c1", "filter": {"must": 1}})
    assert assert_problem(refused, 422, "invalid_filter")["errors"][0]["location"] == "body.filter.must"
    for id in ("c1", "c2", "c3"):
        service.admin.delete(f"/v1/pictures/{id}")


def test_a_page_of_a_filtered_search_follows_the_one_before(service: Service) -> None:
    whole, cursor, pages = search_ids(service, filter=BRIDGES), None, list[str]()
    for _ in range(3):
        body = service.search("anything", language="en", limit=1, filter=BRIDGES, cursor=cursor).json()
        pages += [hit["id"] for hit in body["items"]]
        cursor = body["next_cursor"] or cursor
    assert pages == whole
    answer = service.search("anything", language="en", limit=1, filter=OLD, cursor=cursor)
    assert_problem(answer, 422, "invalid_cursor")  # it is of another filter


def test_facets_count_what_the_filter_leaves_not_the_hits(service: Service) -> None:
    answer = service.search("x", language="en", limit=1, filter=BRIDGES, facets=["tags", "collection", "year", "nope"])
    assert answer.json()["facets"] == {
        "tags": [{"value": "bridge", "count": 3}],
        "collection": [{"value": "early", "count": 2}, {"value": "late", "count": 1}],
        "year": [{"value": year, "count": 1} for year in (1930, 1950, 1970)],
        "nope": [],
    }
    page = service.admin.get("/v1/pictures", params={"facets": "place,tags", "collection": "late"}).json()
    rest = [{"value": tag, "count": 1} for tag in ("bridge", "river", "road")]
    assert page["facets"] == {"place": [{"value": "Chur", "count": 2}], "tags": rest}
    assert "facets" not in service.search("x", language="en").json()
    assert_problem(service.search("x", language="en", facets=["tags"] * 9), 422, "invalid_request")


def make_nested(depth: int) -> dict[str, Any]:
    return {"must": [make_nested(depth - 1)]} if depth > 1 else {"must": []}


@pytest.mark.parametrize(
    ("asked", "place", "code"),
    [
        ([], "filter", "dict_type"),
        ("x", "filter", "dict_type"),
        ({"all": []}, "filter.all", "unknown"),
        ({"<script>": []}, "filter.?", "unknown"),
        ({"must": {}}, "filter.must", "list_type"),
        ({"must": [make_match("a", 1), 7]}, "filter.must.1", "dict_type"),
        ({"must": [{"key": "a"}]}, "filter.must.0", "condition"),
        ({"must": [{"key": "a", "match": {"value": 1}, "range": {"gt": 1}}]}, "filter.must.0", "condition"),
        ({"must": [make_match(1, 1)]}, "filter.must.0.key", "value_type"),
        ({"must": [make_match("a", None)]}, "filter.must.0.match.value", "value_type"),
        ({"must": [make_match("a", [1])]}, "filter.must.0.match.value", "value_type"),
        ({"must": [make_match("a", "\0")]}, "filter.must.0.match.value", "string_unicode"),
        ({"must": [make_match("a", "\ud800")]}, "filter.must.0.match.value", "string_unicode"),
        ({"must": [make_match("a", 10**400)]}, "filter.must.0.match.value", "finite_number"),
        ({"must": [{"key": "a", "match": {"any": "x"}}]}, "filter.must.0.match", "match"),
        ({"must": [{"key": "a", "match": {"any": [1, {}]}}]}, "filter.must.0.match.any.1", "value_type"),
        ({"should": [{"must_not": [{"key": "a", "range": {}}]}]}, "filter.should.0.must_not.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": 1, "above": 2}}]}, "filter.must.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": 1, "lt": "1950-01-01"}}]}, "filter.must.0.range", "range"),
        ({"must": [{"key": "a", "range": {"gt": "yesterday"}}]}, "filter.must.0.range.gt", "bound"),
        ({"must": [{"key": "a", "range": {"gt": True}}]}, "filter.must.0.range.gt", "bound"),
        ({"must": [make_match("a", 1)] * 65}, "filter.must.64", "too_long"),
        ({"must": [{"key": "a", "match": {"any": [*range(1_001)]}}]}, "filter.must.0.match.any.1000", "too_long"),
        (make_nested(9), f"filter{'.must.0' * 8}", "too_deep"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(service: Service, asked: Any, place: str, code: str) -> None:
    sent = json.dumps({"text": "x", "filter": asked}).encode()
    answers = [
        service.admin.post("/v1/search/pictures", content=sent, headers={"Content-Type": "application/json"}),
        service.search_by_picture(filter=json.dumps(asked)),
        service.admin.get("/v1/pictures", params={"filter": json.dumps(asked)}),
    ]
    for answer, where in zip(answers, ("body", "body", "query"), strict=True):
        body = assert_problem(answer, 422, "invalid_filter")
        assert body["errors"] == [{"location": f"{where}.{place}", "code": code}]


def test_a_key_that_is_given_twice_in_a_filter_is_refused(service: Service) -> None:
    twice = '{"must": [{"key": "year", "key": "place", "match": {"value": 1}}]}'
    sent, json_type = f'{{"text": "x", "filter": {twice}}}'.encode(), {"Content-Type": "application/json"}
    for answer, code, place in (
        (service.admin.post("/v1/search/pictures", content=sent, headers=json_type), "invalid_request", "body"),
        (service.admin.post("/v1/search/captions", content=sent, headers=json_type), "invalid_request", "body"),
        (service.search_by_picture(filter=twice), "invalid_filter", "body.filter"),
        (service.admin.get("/v1/pictures", params={"filter": twice}), "invalid_filter", "query.filter"),
    ):
        assert assert_problem(answer, 422, code)["errors"] == [{"location": place, "code": "duplicate_key"}]


def test_a_filter_that_is_no_json_is_refused(service: Service) -> None:
    listed = service.admin.get("/v1/pictures", params={"filter": "{"})
    for answer in (listed, service.search_by_picture(filter='{"a": NaN}')):
        assert assert_problem(answer, 422, "invalid_filter")["errors"][0]["code"] == "json"
    assert_problem(service.admin.get("/v1/pictures", params={"sort": "name"}), 422, "invalid_request")
    assert_problem(service.admin.get("/v1/pictures", params={"collection": "a\tb"}), 422, "invalid_request")


def test_a_registry_that_hangs_holds_up_no_search_without_a_filter(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing, as a stopped process: the threads that read it are others than those of searches."""
    monkeypatch.setattr(lanes, "_READ_SECONDS", 2.0)
    with running(tmp_path, database_url=postgresql_url, watch_seconds=60) as service, ThreadPoolExecutor(24) as threads:
        service.context.lanes.optional_words.seconds = 1.0  # as it is in use
        service.put("a", en=["a cat"])
        assert service.search("cat").json()["items"][0]["tags"] == []
        with create_engine(postgresql_url, poolclass=NullPool).begin() as other:  # what only filters read
            other.execute(text("LOCK TABLE picture_values IN ACCESS EXCLUSIVE MODE"))
            (lane := service.context.lanes.filter).seconds = PATIENCE
            filtered = [threads.submit(service.search, "cat", filter=BRIDGES) for _ in range(9)]
            wait_until(lambda: lane._work.qsize() == 5)  # the others have its threads
            for path in ("pictures/a", "pictures", "collections"):
                assert service.admin.get(f"/v1/{path}").status_code == 200
            assert not any(each.done() for each in filtered)
        lane.seconds = 2.0
        assert [each.result().status_code for each in filtered] == [200] * 9
        with create_engine(postgresql_url, poolclass=NullPool).begin() as other:
            other.execute(text("LOCK TABLE pictures, record_changes IN ACCESS EXCLUSIVE MODE"))
            filtered = [threads.submit(service.search, "cat", filter=BRIDGES) for _ in range(9)]
            filtered += [threads.submit(service.search, "cat", mode=mode) for mode in ("words", "both")]
            listed = ("duplicates", "pictures", "pictures?facets=tags", "pictures/a", "collections")
            filtered += [threads.submit(service.admin.get, f"/v1/{path}") for path in listed]
            with bound_time(4):
                with bound_time(1.8):
                    for answer in threads.map(lambda _: service.search("cat"), range(12)):
                        said = answer.json()
                        assert said["items"][0]["id"] == "a" and said["warnings"] == ["records_unavailable"]
                for each in filtered:
                    assert_problem(each.result(), 503, "registry_unavailable")
        wait_until(lambda: service.search("cat").json()["warnings"] == [])
        assert service.search("cat", filter=BRIDGES).json()["items"] == []
