"""Many searches in one request: each on its own, one snapshot for all, bounded in time, counted for what they cost."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.forms import BodyKind
from service.routes import search as batch
from tests.doubles import StalledEncoder
from tests.index.world import put_picture
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, hold_up, running, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        for id in ("a", "b", "c"):
            service.put(id, en=[f"a {id}"])
        yield service


def send(service: Service, *searches: Any, **query: str) -> httpx.Response:
    return service.admin.post("/v1/search/batch", json={"searches": searches}, params=query)


def test_each_search_is_answered_as_it_would_be_alone_or_refused_with_its_place(service: Service) -> None:
    good: list[dict[str, Any]] = [
        {"text": "a b", "language": "en"},
        {"picture": "a", "limit": 1},
        {"text": "b", "mode": "words", "facets": ["tags"]},
    ]
    bad = [{"text": ""}, {"text": "x", "limit": 0}, 7, {"picture": "no"}, {"text": "x", "filter": {"all": []}}]
    answer = send(service, *good, *bad)
    assert answer.status_code == 200
    body = answer.json()
    assert len(body["items"]) == 8 and body["release"] == 1
    for item, search in zip(body["items"], good, strict=False):
        alone = service.admin.post("/v1/search/pictures", json=search).json()
        assert item["problem"] is None and item["status"] == 200
        assert {**item["answer"], "timing_ms": 0} == {**alone, "timing_ms": 0}
    codes = [(item["status"], item["problem"]["code"]) for item in body["items"][3:]]
    kinds = ["empty_text", "invalid_request", "invalid_request", "picture_not_found", "invalid_filter"]
    assert codes == [(404 if kind == "picture_not_found" else 422, kind) for kind in kinds]
    places = [[error["location"] for error in item["problem"]["errors"]] for item in body["items"][3:]]
    assert places[1:] == [["body.searches.4.limit"], ["body.searches.5"], [], ["body.searches.7.filter.all"]]
    assert all(item["answer"] is None for item in body["items"][3:])


def test_a_batch_has_1_to_100_searches_and_may_be_larger_than_one(service: Service) -> None:
    assert_problem(send(service), 422, "invalid_request")
    assert_problem(send(service, *[{"text": "x"}] * 101), 422, "invalid_request")
    searches = [{"text": f"{number} " + "猫" * 900, "limit": 1} for number in range(100)]
    answer = send(service, *searches, fields="id,score")
    assert [len(item["answer"]["items"]) for item in answer.json()["items"]] == [1] * 100
    assert answer.json()["items"][0]["answer"]["items"][0].keys() == {"id", "score"}
    assert_problem(send(service, *[{"text": "x" * 12_000}] * 100), 413, "body_too_large")


def test_an_unknown_field_refuses_the_whole_batch_and_a_search_before_it_is_encoded(service: Service) -> None:
    bad = send(service, {"text": "a"}, {"text": "b"}, fields="id,nothing")
    alone = service.admin.post("/v1/search/pictures", json={"picture": "no"}, params={"fields": "nothing"})
    for answer in (bad, alone):
        assert assert_problem(answer, 422, "invalid_request")["errors"][0]["code"] == "unknown_field"


def test_answers_are_bounded_in_bytes_and_batches_in_number(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(send(service, {"text": "a"}).content)
    monkeypatch.setattr(batch, "_BYTES", 3 * size)
    items = send(service, *[{"text": "a"}] * 20).json()["items"]
    codes = ["ok" if item["problem"] is None else item["problem"]["code"] for item in items]
    assert 1 <= codes.count("ok") <= 4 and codes.count("overloaded") == 20 - codes.count("ok")
    monkeypatch.setattr(service.context.admissions[BodyKind.SEARCHES], "_limit", 0)
    assert_problem(send(service, {"text": "a"}), 503, "overloaded")


def test_a_bug_refuses_one_search_only(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find = service.context.words.find

    def find_or_fail(words: str, *others: Any, **more: Any) -> Any:
        return find(words, *others, **more) if words != "fails" else 1 / 0

    monkeypatch.setattr(service.context.words, "find", find_or_fail)
    texts = ["a", "fails", "b"]
    items = send(service, *[{"text": text, "mode": "words"} for text in texts]).json()["items"]
    assert [item["status"] for item in items] == [200, 500, 200]
    assert items[1]["problem"]["code"] == "internal_error" and "ZeroDivisionError" in caplog.text


def test_searches_that_read_the_registry_leave_threads_to_others(service: Service) -> None:
    reads = service.context.lanes.batch_reads
    with ThreadPoolExecutor(2) as clients, hold_up(service.context.words, "find") as begun:
        answers = [clients.submit(send, service, *[{"text": "a", "mode": "both"}] * 6) for _ in range(2)]
        wait_until(lambda: len(reads._waiters or ()) == 10)
        assert all(begun.acquire(timeout=PATIENCE) for _ in range(2)) and not begun.acquire(blocking=False)
    assert {item["status"] for answer in answers for item in answer.result().json()["items"]} == {200}


@pytest.mark.row("I7")
def test_one_snapshot_answers_all(tmp_path: Path) -> None:
    with running(tmp_path) as service, ThreadPoolExecutor(1) as clients:
        service.put("a", en=["x"])
        with hold_up(batch, "validate") as begun:
            searches = [{"text": f"text {number}", "language": "en"} for number in range(40)]
            answer = clients.submit(send, service, *searches)
            assert begun.acquire(timeout=PATIENCE)
            put_picture(service.context.live, "b", 2)
        items = answer.result().json()["items"]
        assert {item["answer"]["generation"] for item in items} == {items[0]["answer"]["generation"]}
        assert {len(item["answer"]["items"]) for item in items} == {1}
        assert len(service.search("x").json()["items"]) == 2


def test_what_is_not_answered_in_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_SECONDS", 2.0)
    with running(tmp_path, encoder := StalledEncoder()) as service:
        assert service.search("text 0", language="en").status_code == 200  # its vector is in the cache
        encoder.stall()
        try:
            searches = [{"text": f"text {number}", "language": "en", "mode": "meaning"} for number in range(100)]
            items = send(service, *searches).json()["items"]
        finally:
            encoder.cue.set()
        assert items[0]["status"] == 200 and items[-1]["problem"]["code"] == "overloaded"
        assert items[-1]["problem"]["retry_after_seconds"] == 1


def test_a_batch_counts_as_so_many_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, rate_per_minute=120) as service:  # two a second, twenty at once
        monkeypatch.setattr(service.context.rate, "_clock", lambda: 0.0)
        key = {"X-API-Key": service.key("search")}
        sent = json.dumps({"searches": [{"text": "x"}] * 24}).encode()
        headers = {**key, "Content-Type": "application/json"}
        answer = service.http.post("/v1/search/batch", content=sent, headers=headers)
        assert {item["status"] for item in answer.json()["items"]} == {200}
        refused = service.http.get("/v1/languages", headers=key)
        assert assert_problem(refused, 429, "rate_limited")["retry_after_seconds"] == 3
