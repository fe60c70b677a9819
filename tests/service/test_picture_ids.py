"""Ids like relative paths, percent-coded in the paths of the API: every route, searches, datasets, the command line."""

import json
import logging
from urllib.parse import quote

import httpx
import pytest

from tests.client.test_commands import run, run_json
from tests.service.harness import (
    Service,
    assert_problem,
    assert_state_unchanged,
    picture,
    share_service,
    wait_until,
)

IDS = (
    "a/b c.jpg",
    "2024/Ferien/Bär & Söhne (1).jpeg",
    "写真/東京.png",
    "a%2Fb",
    "50%",
    "x/content",
    "content",
    "thumbnail",
    "batch",
    "a/events",
    'it\'s/a "quote"\\n?v=1#top;+',
    "and more.../.hidden",
)
REFUSED = (
    *("/a", "a/", "a//b", "..", "../x", "a/../b", "./a", "a/.", "", "a\nb", "\0", "a\0b", "a\x7f", "a\u202eb"),
    *("a" * 1_025, "é" * 513),
)


service = share_service()


def make_path(id: str, rest: str = "") -> str:
    return f"/v1/pictures/{quote(id, safe='')}{rest}"


ROUTE = "/v1/pictures/{id}"


def put(service: Service, id: str) -> None:
    answer = service.put(id, en=[f"the picture {id}"[:900]])
    assert answer.status_code == 201 and answer.json()["id"] == id, answer.text


@pytest.mark.parametrize("id", IDS)
def test_every_route_of_a_picture_takes_its_id(service: Service, id: str) -> None:
    put(service, id)
    item = service.admin.get(make_path(id)).json()
    assert item["id"] == id and item["url"].startswith(make_path(id, "/content?v="))
    for url in (item["url"], make_path(id, "/thumbnail")):
        assert service.admin.get(url).headers["content-type"] == "image/jpeg"
    assert service.admin.patch(make_path(id), json={"tags": ["seen"]}).json()["tags"] == ["seen"]
    hits = service.search(f"the picture {id}", language="en", limit=100).json()["items"]
    (hit,) = [hit for hit in hits if hit["id"] == id]
    assert service.admin.get(hit["url"]).status_code == 200
    similar = service.admin.post("/v1/search/captions", json={"picture": id, "limit": 100})
    assert similar.json()["items"][0]["caption"] == f"the picture {id}"
    chosen = {"must": [{"key": "id", "match": {"value": id}}]}
    listed = service.admin.get("/v1/pictures", params={"filter": json.dumps(chosen)}).json()["items"]
    assert [each["id"] for each in listed] == [id]
    assert service.admin.delete(make_path(id)).status_code == 204
    assert_problem(service.admin.get(make_path(id)), 404, "picture_not_found")


def test_the_log_tells_the_route_and_who_changed_which_picture(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def read_lines() -> list[dict[str, object]]:
        fields = ("method", "route", "status", "key", "label", "target")
        said = [record.__dict__ for record in caplog.records if "{id}" in record.__dict__.get("route", "")]
        return [{name: line[name] for name in fields if name in line} for line in said]

    id = "2024/\u00e9t\u00e9/a%2Fb.jpg"
    keys = service.admin.get("/v1/admin/keys").json()["items"]
    with caplog.at_level(logging.INFO, "pictoglot.access"):
        put(service, id)
        writer = {"X-API-Key": service.key("write")}
        (key,) = [each["id"] for each in service.admin.get("/v1/admin/keys").json()["items"] if each not in keys]
        for method in ("GET", "HEAD", "DELETE", "DELETE"):
            service.http.request(method, make_path(id), headers=writer)
        service.http.delete(make_path(id))  # without a key
        service.admin.delete(f"/v1/admin/keys/{writer['X-API-Key']}")  # which is no id
        wait_until(lambda: len(read_lines()) == 7)
    of_key = {"route": ROUTE, "key": key}
    assert read_lines() == [
        {"method": "PUT", "route": ROUTE, "status": 201, "key": "admin", "target": id},
        {"method": "GET", "status": 200, **of_key},
        {"method": "HEAD", "status": 200, **of_key},
        {"method": "DELETE", "status": 204, **of_key, "label": "test", "target": id},
        {"method": "DELETE", "status": 404, **of_key},
        {"method": "DELETE", "route": ROUTE, "status": 401, "key": None},
        {"method": "DELETE", "route": "/v1/admin/keys/{id}", "status": 404, "key": "admin"},
    ]
    counted = service.http.get("/metrics").text
    assert f'pictoglot_request_seconds_count{{method="DELETE",route="{ROUTE}",status="204"}}' in counted
    assert 'route="unknown"' not in counted


@pytest.mark.parametrize("id", REFUSED)
def test_what_is_no_id_is_refused(service: Service, id: str) -> None:
    if id not in ("", ".."):  # clients take these out of a path
        files = {"picture": ("x", picture(1))}
        with assert_state_unchanged(service):
            assert_problem(service.admin.put(make_path(id), files=files), 422, "invalid_request")
        for method in ("GET", "DELETE"):
            assert_problem(service.admin.request(method, make_path(id)), 404, "picture_not_found")
    refused = service.admin.post("/v1/search/captions", json={"picture": id})
    assert refused.status_code == 422


@pytest.mark.parametrize("id", [".hidden", "..a", "...", ".a/b.jpg"])
def test_an_id_has_no_dot_first(service: Service, id: str) -> None:
    def describe_refusal(answer: httpx.Response) -> object:
        return answer.status_code, answer.json()["code"], answer.json()["errors"][0]["code"]

    one = service.admin.put(make_path(id), files={"picture": ("x", picture(1))})
    files = [("picture", ("x", picture(1)))]
    many = service.admin.post("/v1/pictures/batch", files=files, data={"records": json.dumps([{"id": id}])})
    problem = many.json()["items"][0]["problem"]
    assert describe_refusal(one) == (422, "invalid_request", "picture_id")
    assert (problem["code"], problem["errors"][0]["location"]) == ("invalid_request", "body.records.0.id")


def test_a_decomposed_id_is_the_composed_one(service: Service) -> None:
    put(service, "caf\u00e9")
    assert service.admin.get(make_path("cafe\u0301")).json()["id"] == "caf\u00e9"
    chosen = {"must": [{"key": "id", "match": {"value": "cafe\u0301"}}]}
    assert len(service.admin.get("/v1/pictures", params={"filter": json.dumps(chosen)}).json()["items"]) == 1


def test_slashes_that_are_not_coded_and_bytes_that_are_no_text_name_no_picture(service: Service) -> None:
    put(service, "d/e")
    for path in ("/v1/pictures/d/e", "/v1/pictures/d/e/content", "/v1%2fpictures/d%2Fe"):
        assert_problem(service.admin.get(path), 404, "not_found")
    assert_problem(service.admin.get("/v1/pictures/%ff%fe"), 404, "picture_not_found")
    files = {"picture": ("x", picture(1))}
    assert_problem(service.admin.put("/v1/pictures/a%ff", files=files), 422, "invalid_request")
    assert_problem(service.admin.get("/v1/pictures/d%2fe/nothing"), 404, "not_found")
    assert service.admin.head(make_path("d/e", "/content")).status_code == 200


def test_the_command_line_shows_edits_and_deletes_them(service: Service) -> None:
    put(service, "f/g h.jpg")
    assert run_json(service, "pictures", "show", "f/g h.jpg")["id"] == "f/g h.jpg"
    assert run_json(service, "pictures", "edit", "f/g h.jpg", "--tag", "t1")["tags"] == ["t1"]
    assert run(service, "pictures", "delete", "f/g h.jpg").exit_code == 0
    assert_problem(service.admin.get(make_path("f/g h.jpg")), 404, "picture_not_found")
