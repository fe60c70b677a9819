"""A gallery as a library of photographs: their own sizes, when they were taken, and what there is of each kind."""

import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from service.batching import AdmissionLimit
from store.errors import Unavailable
from tests.service.harness import (
    Service,
    assert_problem,
    assert_state_unchanged,
    motif,
    picture,
    share_service,
)

TAKEN = {"a": "2019-07-31T23:59:59Z", "b": "2019-08-01", "c": "1969-12-31", "d": None}


service = share_service()


@pytest.fixture(scope="module")
def dated(service: Service) -> Service:
    """Four pictures, of which one does not tell when it was taken."""
    for seed, (id, taken) in enumerate(TAKEN.items()):
        metadata = {} if taken is None else {"taken_at": taken, "folder": "2019/Chur", "camera": "Camera X"}
        service.put(f"2019/{id}", picture(seed), {"metadata": metadata, "collection": "dated"}).raise_for_status()
    return service


def encode(image: Image.Image, **save: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **save)
    return stream.getvalue()


def test_a_record_and_duplicates_tell_the_size_of_the_photograph(service: Service) -> None:
    wide, turned = motif(7, 3_840).crop((0, 0, 3_840, 2_160)), Image.Exif()
    turned[0x0112] = 6  # a telephone that was held upright
    original = service.put("size/original", encode(wide), {"collection": "sizes"}).json()
    edit = service.put("size/edit", encode(wide.resize((1_200, 675))), {"collection": "sizes"}).json()
    upright = service.put("size/upright", encode(wide, exif=turned), {"collection": "other-sizes"}).json()
    assert [(each["width"], each["height"]) for each in (original, edit)] == [(3_840, 2_160), (1_200, 675)]
    assert (upright["width"], upright["height"]) == (2_160, 3_840)
    stored = Image.open(io.BytesIO(service.admin.get(original["url"]).content))
    assert stored.size == (960, 540)
    (group,) = service.admin.get("/v1/duplicates", params={"collection": "sizes"}).json()["items"]
    assert {each["id"]: (each["width"], each["height"]) for each in group["pictures"]} == {
        "size/original": (3_840, 2_160),
        "size/edit": (1_200, 675),
    }


def test_a_picture_is_called_by_its_title_or_its_file_or_the_end_of_its_id(service: Service) -> None:
    metadata: dict[str, Any] = {"title": "The bridge", "file_name": "IMG_7.jpg"}
    for expected in ("The bridge", "IMG_7.jpg", "bridge"):
        assert service.put("names/2019/bridge", picture(40), {"metadata": metadata}).json()["name"] == expected
        metadata.pop(next(iter(metadata), ""), None)


def test_pages_are_in_the_order_of_when_pictures_were_taken_both_ways(dated: Service) -> None:
    both = [
        [item["id"] for item in dated.list_all("/v1/pictures", collection="dated", sort=sort, limit=1)]
        for sort in ("shown_at", "-shown_at")
    ]
    assert both[0] == both[1][::-1] == ["2019/c", "2019/a", "2019/b", "2019/d"]
    page = dated.admin.get("/v1/pictures", params={"collection": "dated", "sort": "shown_at", "limit": "1"}).json()
    other = {"collection": "dated", "sort": "created_at", "limit": "1", "cursor": page["next_cursor"]}
    assert_problem(dated.admin.get("/v1/pictures", params=other), 422, "invalid_cursor")


def test_a_picture_moves_when_its_date_changes(service: Service) -> None:
    came = service.put("moves", picture(41), {"collection": "moving"}).json()
    assert came["shown_at"] == came["created_at"]

    def patch(taken: object) -> Any:
        return service.admin.patch("/v1/pictures/moves", json={"metadata": {"taken_at": taken}}).json()["shown_at"]

    assert patch("1950-06-01T10:00:00+01:00") == "1950-06-01T09:00:00Z"
    assert [patch(each) for each in ("some day", "0001-01-01T00:00:00+09:00", None)] == [came["created_at"]] * 3


def test_months_folders_cameras_and_collections_are_counted(dated: Service) -> None:
    def count(**query: str) -> Any:
        answer = dated.admin.get("/v1/facets", params={"collection": "dated", **query})
        assert answer.status_code == 200, answer.text
        return answer.json()

    now = dated.admin.get("/v1/pictures/2019%2Fd").json()["created_at"][:7]
    months = [now, "2019-08", "2019-07", "1969-12"]
    assert count() == {
        "pictures": 4,
        "months": [{"value": month, "count": 1} for month in months],
        "folders": [{"value": "2019/Chur", "count": 3}],
        "cameras": [{"value": "Camera X", "count": 3}],
        "collections": [{"value": "dated", "count": 4}],
    }
    july = {"must": [{"key": "shown_at", "range": {"gte": "2019-07-01", "lt": "2019-08-01"}}]}
    left = count(filter=json.dumps(july))
    assert left["pictures"] == 1 and left["months"] == [{"value": "2019-07", "count": 1}]
    assert_problem(dated.admin.get("/v1/facets", params={"filter": "{"}), 422, "invalid_filter")


def test_what_was_deleted_comes_back_and_is_found_again(service: Service) -> None:
    ids = [f"undo/{number}" for number in range(3)]
    for number, id in enumerate(ids):
        service.put(id, picture(50 + number), {"collection": "undo"}, en=[f"a kite {number}"])

    def change(**what: Any) -> dict[str, str]:
        answer = service.admin.post("/v1/pictures/changes", json={"ids": ids, **what})
        assert answer.status_code == 200, answer.text
        assert answer.json()["changed"] == sum(item["outcome"] == "changed" for item in answer.json()["items"])
        return {item["id"]: item["outcome"] for item in answer.json()["items"]}

    def search() -> set[str]:
        among = {"must": [{"key": "id", "match": {"any": ids}}]}
        found = service.search("a kite", language="en", filter=among, mode="words").json()["items"]
        assert all(hit["captions"]["en"] for hit in found)
        return {hit["id"] for hit in found}

    assert search() == {*ids}
    assert change(deleted=True) == dict.fromkeys(ids, "changed") and search() == set()
    assert change(deleted=False) == dict.fromkeys(ids, "changed") and search() == {*ids}
    assert change(add_tags=["toys"], collection="Grandma\u2019s  album") == dict.fromkeys(ids, "changed")
    album = service.admin.get("/v1/pictures", params={"collection": "Grandma\u2019s album"}).json()["items"]
    assert {item["id"]: item["tags"] for item in album} == {id: ["toys"] for id in ids}
    assert change(collection="grandma\u2019s album") == dict.fromkeys(ids, "kept")
    for wrong in ({}, {"deleted": True, "add_tags": ["x"]}, {"collection": "a\nb"}, {"collection": "x" * 129}):
        with assert_state_unchanged(service):
            assert_problem(
                service.admin.post("/v1/pictures/changes", json={"ids": ids, **wrong}), 422, "invalid_request"
            )
    full = service.admin.patch(f"/v1/pictures/{ids[1].replace('/', '%2F')}", json={"tags": [str(n) for n in range(64)]})
    assert full.status_code == 200
    with assert_state_unchanged(service):  # all are changed or none
        refused = service.admin.post("/v1/pictures/changes", json={"ids": ids, "add_tags": ["one more"]})
        assert assert_problem(refused, 422, "invalid_request")["errors"][0]["location"] == "body.ids.1"
    many = [f"{'x' * 1_000}/{number}" for number in range(1_000)]
    gone = service.admin.post("/v1/pictures/changes", json={"ids": many, "deleted": True}).json()
    assert {item["outcome"] for item in gone["items"]} == {"missing"}
    too_many = service.admin.post("/v1/pictures/changes", json={"ids": [*many, "x"], "deleted": True})
    assert_problem(too_many, 422, "invalid_request")


def test_a_file_that_is_there_already_is_said_to_be(service: Service) -> None:
    first = service.put("twice/first", picture(60), {"collection": "twice"}).json()
    second = service.put("twice/second", picture(60), {"collection": "twice"}).json()
    assert "already_there_as" not in first and second["already_there_as"] == "twice/first"
    assert "already_there_as" not in service.put("twice/second", picture(60)).json()  # it is there as itself
    records = json.dumps([{"id": "twice/third"}])
    batch = service.admin.post("/v1/pictures/batch", files={"picture": ("x", picture(60))}, data={"records": records})
    assert batch.json()["items"][0]["already_there_as"] == "twice/first"
    bound = {"X-API-Key": service.key("write", collections=["elsewhere"])}
    other = httpx.put(f"{service.url}/v1/pictures/theirs", files={"picture": ("x", picture(60))}, headers=bound).json()
    assert other["collection"] == "elsewhere" and "already_there_as" not in other


def test_the_bytes_of_what_waits_are_bounded_and_one_is_always_admitted() -> None:
    places = AdmissionLimit(9, most=100)
    with places.admit(300):
        pass
    with places.admit(60), places.admit(40):
        with pytest.raises(Unavailable), places.admit(1):
            pass
        with places.admit(0):
            pass
