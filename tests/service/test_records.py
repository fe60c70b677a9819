"""Pictures as records: what travels with an upload and in every answer, and changing it by a merge patch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.service.harness import Service, assert_problem, assert_state_unchanged, picture, share_service

METADATA = {"place": "Chur", "year": 1950, "scanned": True, "taken_at": "1950-06-01", "people": ["Anna", "Bo"]}


service = share_service(scope="function")


kept = share_service(lambda service: put(service, "a", metadata={"b": 1}))


def put(service: Service, id: str, seed: int = 0, **fields: Any) -> httpx.Response:
    """Put a picture with form fields; those that are no text as JSON."""
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return service.admin.put(f"/v1/pictures/{id}", files={"picture": ("x", picture(seed))}, data=data)


def patch(service: Service, id: str, document: object, **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/merge-patch+json", **headers}
    return service.admin.patch(f"/v1/pictures/{id}", content=json.dumps(document).encode(), headers=given)


def pick_record(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("collection", "tags", "metadata")}


def test_a_record_travels_with_the_upload_and_in_every_item(service: Service) -> None:
    record: dict[str, Any] = {"collection": "Archive-1", "tags": ["bridge", "a, b"], "metadata": METADATA}
    answer = put(service, "a", captions={"en": ["a bridge"]}, **record)
    assert answer.status_code == 201, answer.text
    item = answer.json()
    assert pick_record(item) == record and answer.headers["etag"] == f'"{item["etag"]}"'
    found = service.search("a bridge").json()["items"][0]
    similar = service.search_by_picture().json()["items"][0]
    for other in (service.admin.get("/v1/pictures/a").json(), service.admin.get("/v1/pictures").json()["items"][0]):
        assert other == item
    for hit in (found, similar):
        assert pick_record(hit) == record and hit["id"] == "a" and hit["etag"] == item["etag"]
    again = put(service, "a", 1).json()  # another content; the rest stays
    assert pick_record(again) == record and again["etag"] != item["etag"]
    assert pick_record(put(service, "b", 2, tags="one tag").json()) == {
        "collection": "default",
        "tags": ["one tag"],
        "metadata": {},
    }
    listed = service.admin.get("/v1/collections").json()
    assert listed == {"items": [{"name": "Archive-1", "count": 1}, {"name": "default", "count": 1}]}


def test_a_collection_is_one_whatever_its_upper_and_lower_case(service: Service) -> None:
    assert put(service, "a", collection="Musée").status_code == 201
    bound = {"X-API-Key": service.key("write", collections=["musée"])}
    with service.open_client(bound) as http:
        added = http.put("/v1/pictures/b", files={"picture": ("x", picture(1))}, data={"collection": "MUSÉE"})
        assert added.json()["collection"] == "Musée"
        assert http.patch("/v1/pictures/b", json={"collection": "muséE"}).json()["collection"] == "Musée"
        assert http.get("/v1/collections").json() == {"items": [{"name": "Musée", "count": 2}]}
        for client in (http, service.admin):
            listed = client.get("/v1/pictures", params={"collection": "musée"}).json()["items"]
            assert [each["id"] for each in listed] == ["a", "b"]
            assert client.get("/v1/facets", params={"collection": "MUSÉE"}).json()["pictures"] == 2


def test_a_picture_that_is_posted_into_a_collection_moves_none_out_of_another(service: Service) -> None:
    def post(**fields: str) -> dict[str, Any]:
        answer = service.admin.post("/v1/pictures", files={"picture": ("x", picture())}, data=fields)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()  # type: ignore[no-any-return]

    plain = post()
    there = [post(collection=name) for name in ("a", "b", "a", "default")]
    assert plain["id"] == hashlib.sha256(picture()).hexdigest()
    assert [each.pop("already_there_as", None) for each in there] == [plain["id"], plain["id"], None, None]
    assert there[2] == there[0] and there[3] == plain
    listed = service.admin.get("/v1/collections").json()["items"]
    assert listed == [{"name": name, "count": 1} for name in ("a", "b", "default")]


def test_a_picture_that_was_moved_since_it_was_posted_is_not_moved_back(service: Service) -> None:
    """Nor is one that somebody moves while it is posted: what is kept is decided when it is written."""
    for into in ("a", "default"):
        form = {"collection": into, "tags": "posted"}
        posted = service.admin.post("/v1/pictures", files={"picture": ("x", picture())}, data=form).json()
        assert posted["collection"] == into
        assert patch(service, posted["id"], {"collection": "curated", "tags": []}).is_success
        again = service.admin.post("/v1/pictures", files={"picture": ("x", picture())}, data=form)
        assert again.status_code == 200 and pick_record(again.json()) == {
            "collection": "curated",
            "tags": ["posted"],
            "metadata": {},
        }
        records = json.dumps([{"collection": into}, {"id": posted["id"], "collection": into}])
        files = [("picture", ("x", picture()))] * 2
        answer = service.admin.post("/v1/pictures/batch", files=files, data={"records": records}).json()
        found = [(item["id"], item["outcome"], item["picture"]["collection"]) for item in answer["items"]]
        assert found == [(posted["id"], "kept", "curated"), (posted["id"], "replaced", into)]  # an id: as `PUT`


def test_tags_may_be_sent_one_by_one_in_any_number_and_captions_are_not_short(service: Service) -> None:
    def send(tags: list[str], **more: str) -> httpx.Response:
        files = {"picture": ("x", picture())}
        return service.admin.put("/v1/pictures/a", files=files, data={"tags": tags, **more})

    many = [f"tag {number}" for number in range(64)]
    long = {"cy": [f"{number} " + "x" * 900 for number in range(100)]}  # 90 KB
    answer = send(many, captions=json.dumps(long))
    assert answer.status_code == 201, answer.text
    assert answer.json()["tags"] == many and answer.json()["waiting"] == long
    for tag in ("[draft]", "[", "1950", '"quoted"'):
        assert send([tag]).json()["tags"] == [tag]
    assert_problem(send(["[" * 60_000]), 422, "invalid_request")
    names = {f"field{number}": "" for number in range(16)}
    for refused in (send(many * 2 + ["one more"]), send(["x"], **names)):
        assert assert_problem(refused, 422, "invalid_request")["errors"][0]["code"] == "too_many_fields"
    assert_problem(send(["x"], captions="x" * (256 << 10)), 413, "body_too_large")


def test_fields_choose_what_items_hold(service: Service) -> None:
    put(service, "a", tags=["x"])
    body = {"text": "anything", "language": "en"}
    hits = service.admin.post("/v1/search/pictures?fields=id,score,tags", json=body).json()["items"]
    assert [set(hit) for hit in hits] == [{"id", "score", "tags"}] and hits[0]["tags"] == ["x"]
    items = service.admin.get("/v1/pictures?fields=id").json()["items"]
    assert items == [{"id": "a"}]
    one = service.admin.get("/v1/pictures/a?fields=id,tags")
    assert one.json() == {"id": "a", "tags": ["x"]}
    assert one.headers["etag"] == service.admin.get("/v1/pictures/a").headers["etag"]
    assert service.admin.get("/v1/pictures?fields=id,score,tags").json()["items"] == [one.json()]
    assert service.admin.get("/v1/pictures/a?fields=score,id,tags").json() == one.json()
    for answer in (
        service.admin.get("/v1/pictures?fields=id,nope"),
        service.admin.get("/v1/pictures/a?fields="),
        service.admin.post("/v1/search/pictures?fields=id,nope", json=body),
    ):
        assert assert_problem(answer, 422, "invalid_request")["errors"][0]["location"] == "query.fields"


def test_a_merge_patch_changes_what_it_names_and_nothing_else(service: Service) -> None:
    first = put(service, "a", tags=["x"], metadata=METADATA, captions={"en": ["one"]}).json()
    answer = patch(service, "a", {"metadata": {"place": None, "year": 1951, "new": "yes"}, "collection": "other"})
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    rest = {name: value for name, value in METADATA.items() if name != "place"}
    assert pick_record(changed) == {
        "collection": "other",
        "tags": ["x"],
        "metadata": {**rest, "year": 1951, "new": "yes"},
    }
    assert changed["captions"] == first["captions"] and changed["url"] == first["url"]
    emptied = patch(service, "a", dict.fromkeys(("metadata", "tags", "collection", "captions"))).json()
    assert pick_record(emptied) == {"collection": "default", "tags": [], "metadata": {}} and emptied["captions"] == {}
    with assert_state_unchanged(service):
        same = patch(service, "a", {"tags": None, "metadata": {"nothing": None}})
    assert same.json() == emptied
    assert patch(service, "a", {"metadata": {"n": 1}}).json()["metadata"] == {"n": 1}
    assert patch(service, "a", {"metadata": {"n": True}}).json()["metadata"]["n"] is True
    assert_problem(patch(service, "nope", {"tags": []}), 404, "picture_not_found")


def test_a_patch_is_made_only_on_the_record_that_was_seen(service: Service) -> None:
    seen = put(service, "a").headers["etag"]
    other = patch(service, "a", {"tags": ["by somebody else"]}).headers["etag"]
    with assert_state_unchanged(service):
        for stale in (seen, f"W/{other}", '"nothing"', "nothing"):
            assert_problem(patch(service, "a", {"tags": []}, **{"If-Match": stale}), 412, "record_changed")
    for fresh in (f'"x", {other}', "*"):
        mine = patch(service, "a", {"tags": ["mine"]}, **{"If-Match": fresh})
        assert mine.status_code == 200
    assert patch(service, "a", {"tags": []}, **{"If-Match": mine.json()["etag"]}).status_code == 200  # no quotes
    assert service.admin.get("/v1/pictures/a").headers["etag"] not in (seen, other)


def test_put_and_delete_too_are_made_only_on_the_record_that_was_seen(service: Service) -> None:
    seen = put(service, "a").headers["etag"]
    now = patch(service, "a", {"tags": ["by somebody else"]}).headers["etag"]

    def put_on(id: str, etag: str) -> httpx.Response:
        files = {"picture": ("x", picture(1))}
        return service.admin.put(f"/v1/pictures/{id}", files=files, headers={"If-Match": etag})

    with assert_state_unchanged(service):
        for refused in (put_on("a", seen), put_on("new", "*"), put_on("new", now)):
            assert_problem(refused, 412, "record_changed")
        assert_problem(service.admin.delete("/v1/pictures/a", headers={"If-Match": seen}), 412, "record_changed")
        assert_problem(service.admin.delete("/v1/pictures/new", headers={"If-Match": "*"}), 404, "picture_not_found")
    now = put_on("a", now).headers["etag"]
    assert put_on("a", "*").status_code == 200
    assert service.admin.delete("/v1/pictures/a", headers={"If-Match": now}).status_code == 204


def test_no_captions_for_a_language_without_any_change_nothing(service: Service) -> None:
    first = put(service, "a", captions={"en": ["one"]})
    with assert_state_unchanged(service):
        same = patch(service, "a", {"captions": {"cy": [], "de": None}})
    assert same.json() == first.json()
    assert patch(service, "a", {"captions": {"en": []}}).json()["captions"] == {}


def test_new_captions_are_searched_at_once_and_the_picture_is_not_encoded_again(service: Service) -> None:
    service.learn("de")
    put(service, "a", captions={"en": ["one"], "de": ["eins"]})
    key = service.context.gallery.find_content_keys(["a"])["a"]
    changed = patch(service, "a", {"captions": {"de": ["zwei", "  drei "], "en": None}})
    assert changed.json()["captions"] == {"de": ["zwei", "drei"]}
    hits = service.admin.post("/v1/search/captions", json={"picture": "a"}).json()["items"]
    assert sorted((hit["language"], hit["caption"]) for hit in hits) == [("de", "drei"), ("de", "zwei")]
    assert service.context.gallery.find_content_keys(["a"])["a"] == key
    for captions, code, place in (
        ({"en": ["one"], "xx-": ["?"]}, "language_tag_invalid", "body.captions.xx-"),
        ({"de": ["eins"], "en": ["one", " "]}, "empty_text", "body.captions.en.1"),
        ({"de": ["x" * 1_001]}, "text_too_long", "body.captions.de.0"),
    ):
        refused = assert_problem(patch(service, "a", {"captions": captions}), 422, code)
        assert refused["errors"] == [{"location": place, "code": code}]


def test_captions_in_a_language_that_is_not_taught_wait_until_it_is(service: Service) -> None:
    item = put(service, "a", captions={"cy": ["afal coch"], "en": ["a red apple"]}).json()
    assert (item["captions"], item["waiting"]) == ({"en": ["a red apple"]}, {"cy": ["afal coch"]})
    patched = patch(service, "a", {"captions": {"cy": ["afal coch", "afal"]}}).json()
    assert patched["waiting"] == {"cy": ["afal coch", "afal"]}
    service.learn("cy")
    item = service.admin.get("/v1/pictures/a").json()
    assert (item["captions"]["cy"], item["waiting"]) == (["afal coch", "afal"], {})
    hits = service.admin.post("/v1/search/captions", json={"picture": "a", "languages": ["cy"]}).json()["items"]
    assert {hit["caption"] for hit in hits} == {"afal coch", "afal"}


@pytest.mark.parametrize(
    ("metadata", "place", "code"),
    [
        ({"a": {"nested": 1}}, "body.metadata.a", "value_type"),
        ({"a": None}, "body.metadata.a", "value_type"),
        ({"a": [1]}, "body.metadata.a", "value_type"),
        ({"A": 1}, "body.metadata.?", "key"),
        ({"": 1}, "body.metadata.?", "key"),
        ({"a" * 65: 1}, "body.metadata.?", "key"),
        ({"a": "\u0000"}, "body.metadata.a", "string_unicode"),
        ({"a": ["\ud800"]}, "body.metadata.a", "string_unicode"),
        ({"a": "x" * (16 << 10)}, "body.metadata", "too_long"),
        ([], "body.metadata", "dict_type"),
        ("x", "body.metadata", "dict_type"),
    ],
)
def test_metadata_beyond_its_bounds_is_refused(kept: Service, metadata: Any, place: str, code: str) -> None:
    with assert_state_unchanged(kept):
        answers = [put(kept, "a", metadata=json.dumps(metadata))]
        if not isinstance(metadata, dict) or None not in metadata.values():
            answers.append(patch(kept, "a", {"metadata": metadata}))
        for answer in answers:
            assert assert_problem(answer, 422, "metadata_invalid")["errors"] == [{"location": place, "code": code}]


def test_numbers_that_no_double_holds_are_refused(kept: Service) -> None:
    for number in ("1e999", "9" * 400):
        answer = put(kept, "a", metadata=f'{{"n": {number}}}')
        assert_problem(answer, 422, "metadata_invalid")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tags": [str(number) for number in range(65)]}, 422),
        ({"tags": [""]}, 422),
        ({"tags": ["x" * 201]}, 422),
        ({"tags": ["a\u0001"]}, 422),
        ({"tags": [1]}, 422),
        ({"collection": "two\u2028lines"}, 422),
        ({"collection": " "}, 422),
        ({"metadata": "{"}, 400),
    ],
)
def test_other_parts_of_a_record_have_bounds(kept: Service, fields: dict[str, Any], code: int) -> None:
    with assert_state_unchanged(kept):
        assert_problem(put(kept, "a", **fields), code, "invalid_request" if code == 422 else "malformed_json")
    if code == 422:
        with assert_state_unchanged(kept):
            assert_problem(patch(kept, "a", fields), 422, "invalid_request")


@pytest.mark.parametrize(
    ("document", "code"), [([], 422), ({"url": "x"}, 422), ({"tags": "x"}, 422), ({"captions": {"en": "x"}}, 422)]
)
def test_what_is_no_patch_of_a_record_is_refused(kept: Service, document: object, code: int) -> None:
    with assert_state_unchanged(kept):
        assert_problem(patch(kept, "a", document), code, "invalid_request")
    refused = kept.admin.patch("/v1/pictures/a", content=b"x")
    detail = assert_problem(refused, 415, "unsupported_media_type")["detail"]
    assert detail == "send application/merge-patch+json or application/json in UTF-8"
