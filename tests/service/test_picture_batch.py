"""Many pictures in one request: an answer for each, in order; one that is bad refuses none of the others."""

import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from service import forms
from service.lanes import DATASET_CHECKS
from tests.doubles import WeightlessEncoder
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, assert_state_unchanged, hold_up, picture, running, wait_until

Record = dict[str, Any]


class Gathering(WeightlessEncoder):
    """Remembers how many pictures each call had; the first one takes until eight others are `waiting`."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.waiting: Callable[[], int] | None = None

    def encode_pictures(self, images: Any, batch: int = 64) -> Any:
        if (waiting := self.waiting) is not None and not self.sizes:
            wait_until(lambda: waiting() >= 8)
        self.sizes.append(len(images))
        return super().encode_pictures(images)


@pytest.fixture(scope="module")
def encoder() -> Gathering:
    return Gathering()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, encoder: Gathering) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home"), encoder, decoders=2, picture_bytes=200_000) as service:
        yield service


def post(
    service: Service,
    pictures: Sequence[bytes],
    records: Any,
    http: httpx.Client | None = None,
    query: dict[str, str] | None = None,
) -> httpx.Response:
    files = [("picture", ("x", data)) for data in pictures]
    said = records if isinstance(records, str) else json.dumps(records)
    return (http or service.admin).post("/v1/pictures/batch", files=files, data={"records": said}, params=query)


def list_outcomes(answer: httpx.Response) -> list[tuple[str | None, str, int, str | None]]:
    assert answer.status_code == 200, answer.text
    return [
        (item["id"], item["outcome"], item["status"], item["problem"] and item["problem"]["code"])
        for item in answer.json()["items"]
    ]


def test_each_picture_has_its_own_answer_in_order(service: Service) -> None:
    good: Record = {"id": "a/1.png", "captions": {"en": ["a red boat"]}, "tags": ["x"], "metadata": {"place": "Chur"}}
    records: list[Record] = [
        good,
        {"id": "a/2.png", "collection": "archive"},
        {"id": "bad/bytes"},
        {},
        {"id": "bad//id"},
        {"id": "bad-tags", "tags": [""]},
        {"id": "bad-metadata", "metadata": "x"},
        {"id": "bad-language", "captions": {"und": ["x"]}},
        {"id": "too-large"},
        {"id": "unknown-field", "file": "x"},
        {"id": "not-a-picture"},
    ]
    pictures = [picture(number) for number in range(len(records))]
    pictures[2], pictures[8], pictures[10] = pictures[2][:-40], bytes(200_001), b"text"
    answer = post(service, pictures, records)
    posted = answer.json()["items"][3]["id"]
    assert list_outcomes(answer) == [
        ("a/1.png", "created", 201, None),
        ("a/2.png", "created", 201, None),
        ("bad/bytes", "refused", 422, "picture_corrupt"),
        (posted, "created", 201, None),
        (None, "refused", 422, "invalid_request"),
        ("bad-tags", "refused", 422, "invalid_request"),
        ("bad-metadata", "refused", 422, "metadata_invalid"),
        ("bad-language", "refused", 422, "language_tag_invalid"),
        ("too-large", "refused", 413, "body_too_large"),
        (None, "refused", 422, "invalid_request"),
        ("not-a-picture", "refused", 415, "unsupported_picture_format"),
    ]
    items = answer.json()["items"]
    assert items[4]["problem"]["errors"] == [{"location": "body.records.4.id", "code": "picture_id"}]
    assert items[9]["problem"]["errors"] == [{"location": "body.records.9.file", "code": "extra_forbidden"}]
    assert items[0]["picture"] == service.admin.get("/v1/pictures/a%2F1.png").json()
    assert items[0]["picture"]["metadata"] == {"place": "Chur"} and items[1]["picture"]["collection"] == "archive"
    hits = service.search("a red boat", language="en", limit=100).json()["items"]
    assert {hit["id"]: hit["captions"] for hit in hits}["a/1.png"] == {"en": ["a red boat"]}
    alone = service.admin.post("/v1/pictures", files={"picture": ("x", pictures[3])})
    assert alone.status_code == 200 and alone.json()["id"] == posted
    refused = service.admin.post("/v1/pictures", files={"picture": ("x", pictures[10])}).json()
    assert {**items[10]["problem"], "request_id": ""} == {**refused, "request_id": ""}


def test_pictures_without_records_are_posted(service: Service) -> None:
    pictures = [picture(30), picture(31)]
    answer = service.admin.post("/v1/pictures/batch", files=[("picture", ("x", data)) for data in pictures])
    ids = [hashlib.sha256(data).hexdigest() for data in pictures]
    assert list_outcomes(answer) == [(id, "created", 201, None) for id in ids]


def test_the_log_tells_what_a_batch_and_a_new_key_changed_and_what_was_refused(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pictoglot.access"):
        post(service, [picture(number) for number in range(11)], [{"id": f"l{number:02}"} for number in range(11)])
        post(service, [picture(1), b"no picture"], [{"id": "l00"}, {"id": "l12"}])
        post(service, [b"no picture"], [{"id": "l12"}])
        id = service.key("search").split("_")[1]
        wait_until(lambda: len(caplog.records) >= 4)
    (many, _), *lines = [(getattr(each, "target", ""), getattr(each, "refused", 0)) for each in caplog.records]
    assert len(many.split(", ")) == 10 and many.endswith(" and 1 more")
    assert lines == [("l00", 1), ("", 1), (id, 0)]


def test_to_send_the_same_again_changes_nothing(service: Service) -> None:
    pictures = [picture(20), picture(21)]
    records: list[Record] = [{"id": "again/1", "captions": {"en": ["one"]}, "tags": ["t"]}, {"id": "again/2"}]
    first = post(service, pictures, records).json()["items"]
    with assert_state_unchanged(service):
        again = post(service, pictures, records)
    assert [outcome[1] for outcome in list_outcomes(again)] == ["kept", "kept"]
    assert [item["picture"] for item in again.json()["items"]] == [item["picture"] for item in first]
    records[0]["tags"] = []
    changed = post(service, [pictures[0], picture(22)], records)
    assert [outcome[1:3] for outcome in list_outcomes(changed)] == [("replaced", 200), ("replaced", 200)]
    chosen = post(service, pictures, records, query={"fields": "id,tags"}).json()["items"]
    assert [item["picture"] for item in chosen] == [{"id": "again/1", "tags": []}, {"id": "again/2", "tags": []}]


def test_several_pictures_of_one_id_are_put_one_after_the_other(service: Service) -> None:
    records = [{"id": "same", "tags": [str(number)]} for number in range(4)]
    slow = io.BytesIO()  # to decode: put at the same time, the others would be there before it
    Image.new("RGB", (2_000, 2_000), "teal").save(slow, "PNG")
    answer = post(service, [slow.getvalue(), *(picture(30 + number) for number in range(3))], records)
    assert [outcome[1] for outcome in list_outcomes(answer)] == ["created", "replaced", "replaced", "replaced"]
    assert service.admin.get("/v1/pictures/same").json()["tags"] == ["3"]


def test_pictures_are_encoded_together(service: Service, encoder: Gathering) -> None:
    """And so they are written together: those of one batch come to the queue of `WriteQueue` at one time."""
    encoder.sizes.clear()
    encoder.waiting = lambda: service.context.picture_queue.encode_uploads.depth
    answer = post(service, [picture(1_000 + number) for number in range(40)], [{}] * 40)
    encoder.waiting = None
    assert [outcome[1] for outcome in list_outcomes(answer)] == ["created"] * 40
    assert sum(encoder.sizes) == 40 and max(encoder.sizes) == 8


def test_256_pictures_are_taken(service: Service) -> None:
    answer = post(service, [b"no picture"] * 256, [{}] * 256)
    assert {outcome[3] for outcome in list_outcomes(answer)} == {"unsupported_picture_format"}
    assert len(answer.json()["items"]) == 256


REFUSED: dict[str, tuple[Sequence[bytes], Any, int, str]] = {
    "no records": ([picture(1)], "", 400, "malformed_json"),
    "not a list": ([picture(1)], {"id": "x"}, 422, "invalid_request"),
    "fewer records": ([picture(1), picture(2)], [{}], 422, "invalid_request"),
    "fewer pictures": ([picture(1)], [{}, {}], 422, "invalid_request"),
    "a key twice": ([picture(1)], '[{"id": "x", "id": "y"}]', 422, "invalid_request"),
    "257 pictures": ([b"x"] * 257, [{}] * 257, 422, "invalid_request"),
    "too long records": ([picture(1)], [{"id": "x", "metadata": {"a": "x" * (9 << 20)}}], 413, "body_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_batch_that_cannot_be_matched_is_refused_as_a_whole(service: Service, name: str) -> None:
    pictures, records, status, code = REFUSED[name]
    with assert_state_unchanged(service):
        assert_problem(post(service, pictures, records), status, code)


def test_other_forms_are_refused(service: Service) -> None:
    def send(files: Any, data: Any) -> httpx.Response:
        return service.admin.post("/v1/pictures/batch", files=files, data=data)

    with assert_state_unchanged(service):
        assert_problem(send(None, {"records": "[]"}), 415, "unsupported_media_type")
        assert_problem(send({"records": (None, "[]")}, {}), 422, "invalid_request")
        assert_problem(send({"other": ("x", b"")}, {"records": "[{}]"}), 422, "invalid_request")
        assert_problem(service.admin.post("/v1/pictures/batch", json=[]), 415, "unsupported_media_type")


def test_the_whole_and_the_number_of_batches_at_once_are_bounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("small"), batch_bytes=20_000, picture_bytes=20_000, queue_limit=1) as service:
        large = post(service, [bytes(20_000)] * 500, [{}])
        assert_problem(large, 413, "body_too_large")
        one_by_one = post(service, [picture(number) for number in range(5)], [{}] * 5)  # though only one may wait
        assert [outcome[1] for outcome in list_outcomes(one_by_one)] == ["created"] * 5
        places = service.context.picture_queue.batches
        with places.admit(), places.admit():
            assert_problem(post(service, [picture(9)], [{}]), 503, "overloaded")
        assert post(service, [picture(9)], [{}]).status_code == 200


def test_a_bound_key_writes_into_its_collections_alone(service: Service) -> None:
    assert service.put("elsewhere").status_code == 201
    near = {"X-API-Key": service.key("write", collections=["near"])}
    with service.open_client(near) as http:
        records = [{"id": "elsewhere"}, {"id": "near/1", "collection": "far"}, {"id": "near/2"}, {}]
        answer = post(service, [picture(40 + number) for number in range(4)], records, http)
        assert [outcome[1:] for outcome in list_outcomes(answer)] == [
            ("refused", 404, "picture_not_found"),
            ("refused", 403, "insufficient_scope"),
            ("created", 201, None),
            ("created", 201, None),
        ]
        assert {item["picture"]["collection"] for item in answer.json()["items"][2:]} == {"near"}
    assert service.admin.get("/v1/pictures/elsewhere").json()["collection"] == "default"


def test_records_are_parsed_beside_the_event_loop(service: Service) -> None:
    """Eight megabytes of them take two seconds."""
    with ThreadPoolExecutor(1) as clients, hold_up(forms, "parse_json") as parsing:
        answer = clients.submit(post, service, [picture(71)], [{"id": "parsed"}])
        assert parsing.acquire(timeout=PATIENCE)
        assert service.http.get("/livez").status_code == 200
    assert list_outcomes(answer.result()) == [("parsed", "created", 201, None)]


def test_a_batch_does_not_wait_for_datasets_that_are_checked(service: Service) -> None:
    begun, done = threading.Barrier(DATASET_CHECKS + 1), threading.Event()

    def check() -> None:
        begun.wait(PATIENCE)
        done.wait(PATIENCE)

    with ThreadPoolExecutor(DATASET_CHECKS) as checks:
        for _ in range(DATASET_CHECKS):
            checks.submit(service.context.lanes.dataset.run_blocking, check)
        begun.wait(PATIENCE)
        answer = post(service, [picture(70)], [{"id": "meanwhile"}])
        done.set()
    assert list_outcomes(answer) == [("meanwhile", "created", 201, None)]
