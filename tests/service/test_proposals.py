"""Captions that people propose: apart until two agree or a keeper accepts, then found, and taught from 64 on."""

import json
import sys
import threading
import traceback
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from store.tables import CaptionRow
from tests.client.test_commands import run, run_json
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, assert_state_unchanged, hold_up, picture, running

PATH = "/v1/languages/br/captions"  # of most tests, each with pictures of its own
COUNT = 70


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        for number in range(COUNT):
            service.put(f"p{number:02}", picture(number)).raise_for_status()
        yield service


def propose(
    service: Service, id: str, text: str, name: str = "", path: str = PATH, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    body = {"picture": id, "text": text, "name": name}
    answer = (service.http if headers else service.admin).post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read_captions(service: Service, id: str, tag: str = "br") -> list[str]:
    return list(service.admin.get(f"/v1/pictures/{id}").json()["own"].get(tag, []))


def test_two_who_agree_make_a_caption_and_one_does_not(service: Service) -> None:
    path = PATH.replace("br", "kw")

    def list_wanted(name: str, count: int = COUNT) -> dict[str, list[str]]:
        asked = service.admin.get(f"{path}/wanted", params={"name": name, "count": count}).raise_for_status()
        return {each["picture"]: [other["text"] for other in each["proposals"]] for each in asked.json()["items"]}

    assert [*list_wanted("Anna", 3)] == ["p69", "p68", "p67"]
    proposal = propose(service, "p05", "Kath wynn yw.", "Anna", path)
    assert proposal == {"accepted": False, "captions": 0, "needed": 64}
    assert propose(service, "p05", "kath  wynn yw", "anna ", path)["accepted"] is False, "one person"
    assert read_captions(service, "p05", "kw") == [] and "wynn" not in service.search("kath", captions="all").text
    assert "p05" not in list_wanted("Anna")
    assert next(iter(list_wanted("Yann").items())) == ("p05", ["kath wynn yw"])
    assert propose(service, "p05", "kath dhu yw", "Yann", path)["accepted"] is False
    agreed = propose(service, "p05", "KATH WYNN YW!", "Yann", path)
    assert agreed == {"accepted": True, "captions": 1, "needed": 64}
    assert read_captions(service, "p05", "kw") == ["kath wynn yw"]
    assert "p05" not in list_wanted("Maia")
    accepted = service.admin.get(path, params={"accepted": "true"}).json()["items"]
    assert {(each["name"], each["picture"], each["accepted_by"]) for each in accepted} >= {("Yann", "p05", "admin")}
    assert all(each["proposed_at"] and each["accepted_at"] for each in accepted)


def test_two_keys_are_two_people_and_carry_their_labels(service: Service) -> None:
    keys = [{"X-API-Key": service.key("write")} for _ in range(2)]
    assert [propose(service, "p06", "ur gwezenn", headers=key)["accepted"] for key in keys] == [False, True]
    accepted = service.admin.get(PATH, params={"accepted": "true"}).json()["items"]
    assert [each["label"] for each in accepted if each["picture"] == "p06"] == ["test", "test"]


def test_a_keeper_accepts_and_rejects(service: Service) -> None:
    for id in ("p07", "p08"):
        propose(service, id, f"skeudenn {id}", "Anna")
    waiting = {each["picture"]: each["id"] for each in service.admin.get(PATH).json()["items"]}
    body = {"accept": [waiting["p07"], 999_999], "reject": [waiting["p08"]]}
    assert service.admin.post(f"{PATH}/review", json=body).json()["accepted"] == 1
    assert service.admin.post(f"{PATH}/review", json=body).json()["accepted"] == 0, "done again"
    assert (read_captions(service, "p07"), read_captions(service, "p08")) == (["skeudenn p07"], [])
    assert not {"p07", "p08"} & {each["picture"] for each in service.admin.get(PATH).json()["items"]}


def test_a_keeper_does_not_accept_what_was_written_after_he_read(service: Service) -> None:
    propose(service, "p10", "mat", "Anna")
    (read,) = [each["id"] for each in service.admin.get(PATH).json()["items"] if each["picture"] == "p10"]
    propose(service, "p10", "fall", "Anna")
    assert service.admin.post(f"{PATH}/review", json={"accept": [read], "reject": [read]}).json()["accepted"] == 0
    assert [each["text"] for each in service.admin.get(PATH).json()["items"] if each["picture"] == "p10"] == ["fall"]


def test_one_may_correct_though_no_more_may_wait(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    propose(service, "p11", "mat", "Anna")
    monkeypatch.setattr("store.speakers.MOST_OPEN", 1)
    assert propose(service, "p11", "gwell", "Anna")["accepted"] is False
    with assert_state_unchanged(service):
        body = {"picture": "p11", "text": "gwell", "name": "Yann"}
        assert_problem(service.admin.post(PATH, json=body), 422, "too_many_answers")


def test_what_is_no_caption_is_refused_and_changes_nothing(service: Service) -> None:
    with assert_state_unchanged(service):
        for body, status, code in (
            ({"picture": "none", "text": "x"}, 404, "picture_not_found"),
            ({"picture": "p09", "text": " "}, 422, "empty_text"),
            ({"picture": "p09", "text": "..."}, 422, "empty_text"),  # two of them would agree
            ({"picture": "p09", "text": "a\u0007"}, 422, "text_invalid_unicode"),
            ({"picture": "p09", "text": "x", "name": "a\nb"}, 422, "invalid_request"),
            ({"picture": "p09"}, 422, "invalid_request"),
        ):
            assert_problem(service.admin.post(PATH, json=body), status, code)
        assert_problem(service.admin.post(PATH.replace("br", "xx"), json={}), 422, "invalid_request")
        assert_problem(service.admin.get("/v1/languages/xx/captions/wanted"), 422, "language_tag_invalid")
        assert_problem(service.admin.post(f"{PATH}/review", json={"accept": [0]}), 422, "invalid_request")


def test_a_deleted_picture_takes_its_proposals_along(service: Service) -> None:
    service.put("gone").raise_for_status()
    propose(service, "gone", "tra", "Anna")
    service.admin.delete("/v1/pictures/gone").raise_for_status()
    assert "gone" not in {each["picture"] for each in service.admin.get(PATH).json()["items"]}


def test_from_64_captions_on_the_language_is_taught_from_them(service: Service) -> None:
    for number in range(COUNT):
        service.admin.patch(f"/v1/pictures/p{number:02}", json={"captions": {"gv": [f"red {number}"]}})
        if number == 62:
            assert "dataset_too_small" in run(service, "learn", "gv", "--captions").stderr
    wanted = service.admin.get(PATH.replace("br", "gv") + "/wanted").json()
    assert wanted["captions"] == 64, "no more are counted than are needed"
    report = run_json(service, "learn", "gv", "--captions", "--dry-run")["report"]
    assert (report["rows"], report["usable"], report["with_picture"]) == (COUNT, COUNT, COUNT)
    form = {"language": (None, "gv"), "captions": (None, "true"), "words": (None, "true")}
    assert_problem(service.admin.post("/v1/languages", files=form), 422, "invalid_request")
    expansion = run_json(service, "learn", "gv", "--captions")
    (kept,) = (service.home / "expansions" / expansion["id"]).glob("dataset")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {"caption": "red 5", "picture": "p05"} in rows
    assert run(service, "learn", "gv", "x.jsonl", "--captions").exit_code == 2


def test_captions_are_read_in_the_lane_of_datasets_and_only_for_what_is_checked(service: Service) -> None:
    for number in range(COUNT):
        service.admin.patch(f"/v1/pictures/p{number:02}", json={"captions": {"kw": [f"tra {number}"]}})

    def teach(tag: str, headers: dict[str, str], **more: str) -> httpx.Response:
        form = {"language": tag, "captions": "true", "confirmed": "true", **more}
        return service.admin.post("/v1/languages", files={k: (None, v) for k, v in form.items()}, headers=headers)

    none = assert_problem(teach("co", {}), 422, "dataset_too_small")
    assert none["detail"] == "no picture has a caption in co yet"
    once = {"Idempotency-Key": "once"}
    first = teach("kw", once)
    assert first.status_code == 202, first.text
    proposals = type(service.context.registry.proposals)
    with ThreadPoolExecutor() as pool, hold_up(proposals, "iterate_captions") as reached:
        assert teach("kw", once).json() == first.json()
        assert_problem(teach("en", {}), 422, "invalid_request")
        assert not reached.acquire(blocking=False)
        checked = pool.submit(teach, "kw", {}, dry_run="true")
        assert reached.acquire(timeout=PATIENCE)
        assert list_threads("write_captions") == ["lane dataset"]
    assert checked.result().status_code == 200


def list_threads(function: str) -> list[str]:
    """List the names of the threads that are in a function of this name."""
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        for frame, _ in traceback.walk_stack(frames.get(thread.ident or 0))
        if frame.f_code.co_name == function
    ]


def test_captions_that_are_taught_are_not_all_in_memory(service: Service) -> None:
    text = "tra " * 100
    rows = [
        {
            "picture_id": f"p{n % COUNT:02}",
            "language": "ga",
            "text": f"{text}{n}",
            "position": n,
            "change": 0,
            "digest": str(n),
        }
        for n in range(20_000)
    ]
    with service.context.registry.begin() as session:
        session.execute(insert(CaptionRow), rows)
    del rows
    form = {"language": (None, "ga"), "captions": (None, "true"), "dry_run": (None, "true")}
    tracemalloc.start()
    try:
        answer = service.admin.post("/v1/languages", files=form)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.json()["report"]["rows"] == 20_000, answer.text
    assert peak < 4 << 20


def test_letters_of_captions_count(service: Service) -> None:
    service.admin.patch("/v1/pictures/p01", json={"captions": {"gn": ["Ñande ỹ"]}}).raise_for_status()
    assert service.admin.get("/v1/languages/gn").json()["letters"] == ["ñ", "ỹ"]


def test_a_bound_key_sees_letters_of_its_own_collections_alone(service: Service) -> None:
    for id, collection, text in (("p60", "open", "ŋa"), ("p61", "closed", "ƙa")):
        change = {"collection": collection, "captions": {"ha": [text]}}
        service.admin.patch(f"/v1/pictures/{id}", json=change).raise_for_status()
    answer = {"english": "dog", "captions": ["ɗa"]}
    service.admin.post("/v1/languages/ha/words", json={"words": [answer]}).raise_for_status()
    bound = {"X-API-Key": service.key("search", collections=["open"])}
    assert service.http.get("/v1/languages/ha", headers=bound).json()["letters"] == ["ŋ"]
    assert service.admin.get("/v1/languages/ha").json()["letters"] == ["ŋ", "ƙ", "ɗ"]


def test_who_may_only_search_is_not_told_who_captions(service: Service) -> None:
    path = PATH.replace("br", "fo")
    for id, name in (("p12", "Anna"), ("p13", "Anna"), ("p13", "Yann")):
        service.admin.post(path, json={"picture": id, "text": "thie", "name": name}).raise_for_status()
    assert "Anna" in service.admin.get(path).text
    headers = {"X-API-Key": service.key("search")}
    for asked in ("", "?accepted=true", "/wanted"):
        items = service.http.get(path + asked, headers=headers).json()["items"]
        shown = [each for item in items for each in item.get("proposals", [item])]
        assert shown and {(each["name"], each["label"], each["accepted_by"]) for each in shown} == {("", "", None)}
