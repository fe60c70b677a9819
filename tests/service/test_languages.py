"""Teaching languages over HTTP, as far as it needs no worker."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.model.test_dataset import ARCHIVES, WHOLE_FILES, has_no_codes
from tests.patience import PATIENCE, bound_time
from tests.s3_server import S3Server
from tests.service.harness import (
    Service,
    assert_problem,
    assert_state_unchanged,
    hide_registry,
    learn,
    running,
    wait_until,
)

EXPANSIONS = "/v1/expansions"


def make_dataset(count: int = 80, **columns: str) -> bytes:
    """Make a valid Welsh dataset; `columns` adds further columns, with numbered values."""
    columns = {"caption": "afal coch ", "english": "red apple ", **columns}
    rows = [{name: f"{value}{n}" for name, value in columns.items()} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def teach(service: Service, tag: str = "cy", data: bytes | None = None, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    files = {"dataset": ("x.jsonl", make_dataset() if data is None else data)}
    return service.admin.post("/v1/languages", data={"language": tag, **more}, files=files, headers=headers)


def test_a_dry_run_says_that_one_held_out_text_is_too_few(service: Service) -> None:
    rows = make_dataset().replace(b"}", b', "split": "train"}').replace(b'"train"', b'"val"', 1)
    with assert_state_unchanged(service):
        for dry_run in ("true", "false"):
            body = assert_problem(teach(service, data=rows, dry_run=dry_run), 422, "dataset_too_small")
            assert body["detail"].startswith("all held-out captions are of one text; at least 2 are needed")


WRONG = (
    *WHOLE_FILES,
    ("", make_dataset(1) * 200),  # all but one are repetitions
    ("", b'{"text": "a"}\n' * 100),  # every row is faulty
    ("wrong_columns", b"\x00\x01\x02"),
)
BLANK = make_dataset(70) + b'{"caption": " ", "english": "x"}\n' * 30


@pytest.mark.row("E1")
@pytest.mark.parametrize(("kind", "data"), WRONG)
def test_a_file_that_is_no_dataset_is_refused_as_a_whole(service: Service, kind: str, data: bytes) -> None:
    """Behind what is wrong stands what to do: after a semicolon, a colon or a comma."""
    with assert_state_unchanged(service):
        refused = assert_code(teach(service, data=data), 422, "dataset_invalid")
    assert refused.get("kind", "") == kind
    assert has_no_codes(refused["detail"]) and re.search("[;:,] ", refused["detail"])


@pytest.mark.row("E1")
def test_a_refused_dataset_names_lines_and_counts(service: Service) -> None:
    body = assert_code(teach(service, data=BLANK), 422, "dataset_invalid")
    assert body["report"]["faults"]["empty_text"]["count"] == 30 - body["report"]["duplicates"]
    assert body["errors"][0] == {"location": "line 71", "code": "empty_text"}


@pytest.mark.row("E2")
def test_captions_in_another_script_than_the_tag_are_refused(service: Service) -> None:
    with assert_state_unchanged(service):
        assert_code(teach(service, tag="te"), 422, "dataset_language_mismatch")


@pytest.mark.row("E3")
def test_unknown_pictures_are_refused_with_the_first_of_them(service: Service) -> None:
    with assert_state_unchanged(service):
        body = assert_code(teach(service, data=make_dataset(picture="unknown")), 422, "picture_not_found")
    assert body["count"] == 80
    assert "unknown9" in body["detail"]
    assert "unknown10" not in body["detail"]


def test_teaching_is_accepted_and_its_expansion_can_be_read(fresh: Service) -> None:
    answer = teach(fresh, tag="CY", settings='{"epochs": 3, "seed": 7}')
    assert answer.status_code == 202
    expansion = answer.json()["expansion"]
    assert answer.headers["location"] == f"{EXPANSIONS}/{expansion['id']}"
    assert (expansion["language"], expansion["state"], expansion["kind"]) == ("cy", "queued", "learn")
    assert fresh.admin.get(answer.headers["location"]).json() == expansion
    kept = fresh.context.registry.expansions.get(expansion["id"])
    assert kept.settings == {"epochs": 3, "seed": 7}
    assert kept.dataset_path is not None
    assert (fresh.home / kept.dataset_path).read_bytes() == make_dataset()
    assert not any((fresh.home / "uploads").iterdir())


def test_a_dry_run_reports_and_does_nothing(service: Service) -> None:
    with assert_state_unchanged(service):
        answer = teach(service, dry_run="true")
    assert answer.status_code == 200
    assert answer.json()["report"]["usable"] == 80


@pytest.mark.row("E4")
def test_the_same_language_again_is_a_conflict_until_it_is_done(fresh: Service) -> None:
    id = teach(fresh).json()["expansion"]["id"]
    with assert_state_unchanged(fresh):
        body = assert_problem(teach(fresh), 409, "expansion_in_progress")
    assert body["expansion"] == id


@pytest.mark.row("E5")
def test_another_language_is_queued_beside_it(fresh: Service) -> None:
    assert [teach(fresh, tag=tag).status_code for tag in ("cy", "fr")] == [202, 202]
    assert len(fresh.admin.get(EXPANSIONS).json()["items"]) == 2


@pytest.mark.row("E6")
def test_of_two_that_race_one_is_taken(fresh: Service) -> None:  # 200 pairs: tests/store
    for tag in ("cy", "fr", "it", "pt", "ro"):
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda tag: teach(fresh, tag=tag).status_code, [tag, tag]))
        assert sorted(answers) == [202, 409]
    assert len(list((fresh.home / "expansions").iterdir())) == 5


@pytest.mark.row("E7")
def test_one_idempotency_key_makes_one_expansion(fresh: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: teach(fresh, headers=headers), range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["expansion"]["id"] for answer in answers}) == 1
    assert len(list((fresh.home / "expansions").iterdir())) == 1


@pytest.mark.row("E8")
def test_an_idempotency_key_with_another_body_is_refused(fresh: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    teach(fresh, headers=headers)
    with assert_state_unchanged(fresh):
        assert_problem(teach(fresh, tag="fr", headers=headers), 422, "idempotency_key_reused")


@pytest.mark.row("E9")
def test_submitting_needs_no_broker(tmp_path: Path) -> None:
    with running(tmp_path, broker_url="redis://127.0.0.1:1/0") as service:
        assert teach(service).status_code == 202


@pytest.mark.row("E10", "S3")
def test_without_the_registry_searches_go_on_and_writes_say_so(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.put("a", en=["a cat"])

        def has_noticed() -> bool:
            service.context.registry.close()  # a connection that was in use then comes back to the pool
            return "registry_unavailable" in service.http.get("/readyz").json()["degraded"]

        with hide_registry(service):
            wait_until(has_noticed)
            service.context.registry.close()
            with bound_time(2):
                answer = teach(service)
            assert_problem(answer, 503, "registry_unavailable")
            found = service.search("cat").json()
            assert (found["items"][0]["id"], found["items"][0]["tags"]) == ("a", None)
            assert "records_unavailable" in found["warnings"]
            assert_problem(service.search("cat", filter={"must_not": [{"must": []}]}), 503, "registry_unavailable")
            ready = service.http.get("/readyz")
            assert ready.status_code == 200
            assert "registry_unavailable" in ready.json()["degraded"]
            assert not any((tmp_path / "expansions").glob("*")) and not any((tmp_path / "uploads").glob("*"))
        assert teach(service).status_code == 202


@pytest.mark.row("E11")
def test_without_free_space_nothing_is_taken(tmp_path: Path) -> None:
    with running(tmp_path, free_bytes=1 << 60) as service, assert_state_unchanged(service):
        for answer in (teach(service), service.put("a")):
            assert_problem(answer, 507, "storage_full")


@pytest.mark.row("E12")
def test_cancelling(fresh: Service) -> None:
    queued = teach(fresh).json()["expansion"]["id"]
    answer = fresh.admin.post(f"{EXPANSIONS}/{queued}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert_problem(fresh.admin.post(f"{EXPANSIONS}/{queued}/cancel"), 409, "expansion_finished")
    running_one = teach(fresh).json()["expansion"]["id"]
    fresh.context.registry.expansions.take_lease(running_one, "a worker")
    answer = fresh.admin.post(f"{EXPANSIONS}/{running_one}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert fresh.context.registry.expansions.get(running_one).cancel_requested


@pytest.mark.row("E15")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{EXPANSIONS}/nope", "expansion_not_found"),
        (f"{EXPANSIONS}/nope/events", "expansion_not_found"),
        ("/v1/versions/99", "version_not_found"),
        ("/v1/versions/99999999999", "version_not_found"),
        ("/v1/versions/-1", "version_not_found"),
        *((f"/v1/versions/{number}/report", "version_not_found") for number in (99, 99999999999, -1)),
        ("/v1/versions/" + "9" * 99, "version_not_found"),
    ],
)
def test_what_does_not_exist_is_not_found(service: Service, path: str, code: str) -> None:
    assert_problem(service.admin.get(path), 404, code)


@pytest.mark.parametrize("number", ["x", "0.0", "+0", "0_0", "%200", "%D9%A0"])  # int() takes all but the first
def test_the_number_of_a_version_is_digits(service: Service, number: str) -> None:
    assert service.admin.get("/v1/versions/0").status_code == 200
    assert_problem(service.admin.get(f"/v1/versions/{number}"), 422, "invalid_request")


@pytest.mark.row("E16")
@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_are_refused(service: Service, data: bytes) -> None:
    with assert_state_unchanged(service):
        assert_code(teach(service, data=data), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "more",
    [
        {"settings": "{"},
        {"settings": "[]"},
        {"settings": '{"epochs": -1}'},
        {"settings": '{"epochs": 1.5}'},
        {"settings": '{"learning_rate": NaN}'},
        {"settings": '{"batch_size": 16}'},
        {"dry_run": "maybe"},
        {"colour": "red"},
        {"tag": "en_US"},
        {"headers": {"Idempotency-Key": "x" * 256}},
    ],
)
def test_malformed_fields_are_refused(service: Service, more: dict[str, Any]) -> None:
    with assert_state_unchanged(service):
        answer = teach(service, **more)
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"invalid_request", "malformed_json", "language_tag_invalid"}


@pytest.mark.parametrize("tag", ["en", "EN", "eng"])
def test_english_is_built_in_and_is_not_taught(service: Service, tag: str) -> None:
    with assert_state_unchanged(service):
        body = assert_problem(teach(service, tag=tag), 422, "invalid_request")
    assert body["detail"] == "English is built in and cannot be taught"


def test_a_form_without_its_parts_is_refused(service: Service) -> None:
    answer = service.admin.post("/v1/languages", data={"language": "cy"}, files={"other": ("x", b"")})
    assert_problem(answer, 422, "invalid_request")
    answer = service.admin.post("/v1/languages", files={"dataset": ("x", make_dataset())})
    assert_problem(answer, 422, "invalid_request")


def test_a_dataset_above_the_limit_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, dataset_bytes=100_000) as service, assert_state_unchanged(service):
        assert_problem(teach(service, data=bytes(100_001)), 413, "body_too_large")


def test_the_languages_are_listed_with_names_and_versions(service: Service) -> None:
    listed = service.admin.get("/v1/languages").json()
    english, german = sorted(listed["items"], key=lambda item: item["version"])
    assert (english["language"], english["version"], english["native_name"]) == ("en", 0, "English")
    assert (german["language"], german["native_name"], german["direction"]) == ("de", "Deutsch", "ltr")
    assert (english["captions"], german["captions"]) == (3, 2)
    assert listed["shared_version"] == german["version"] == 1


def test_versions_are_listed_newest_first_and_page_by_page(service: Service) -> None:
    first = service.admin.get("/v1/versions", params={"limit": 1}).json()
    second = service.admin.get("/v1/versions", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [first["items"][0]["number"], second["items"][0]["number"]] == [1, 0]
    assert second["next_cursor"] is None
    assert second["items"][0]["report"]["t2i"]["R@1"] is None
    detail = service.admin.get("/v1/versions/1").json()
    assert (detail["parent"], detail["language"], detail["manifest"]) == (0, "de", None)


def test_version_0_has_the_fingerprints_of_the_base_s_towers(service: Service) -> None:
    encoder = service.context.encoder
    digests = service.admin.get("/v1/versions/0").json()["digests"]
    assert digests == {"image": encoder.image_fingerprint, "text": encoder.text_fingerprint}


def test_the_events_of_an_expansion_follow_it_to_its_end(fresh: Service) -> None:
    id = teach(fresh).json()["expansion"]["id"]
    expansions, seen = fresh.context.registry.expansions, threading.Event()

    def work() -> None:
        lease = expansions.take_lease(id, "a worker")
        assert lease is not None
        expansions.record_progress(
            lease, phase="train", step=1, steps=2, progress=0.5, eta_seconds=1.0, made_progress=True
        )
        assert seen.wait(PATIENCE)
        expansions.fail(lease, "training_diverged", "The loss is no longer finite.")

    with fresh.admin.stream("GET", f"{EXPANSIONS}/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        worker = threading.Thread(target=work)
        events, names = list[Any](), set[str]()
        for name, _, value in (line.partition(": ") for line in response.iter_lines()):
            names |= {value} if name == "event" else set()
            events += [json.loads(value)] if name == "data" else []
            if events and worker.ident is None:
                worker.start()
            if events and events[-1]["phase"] == "train":
                seen.set()
        worker.join()
    states = [*dict.fromkeys(each["state"] for each in events)]
    assert (states, names) == (["queued", "running", "failed"], {"expansion"})
    last = events[-1]
    assert last["error"] == {"code": "training_diverged", "detail": "The loss is no longer finite."}
    assert last == fresh.admin.get(f"{EXPANSIONS}/{id}").json()


def test_streams_of_events_are_few_and_end_with_their_key(fresh: Service) -> None:
    id, key = teach(fresh).json()["expansion"]["id"], fresh.key("search")
    streams, path, headers = fresh.context.streams, f"{EXPANSIONS}/{id}/events", {"X-API-Key": key}
    with fresh.http.stream("GET", path, headers=headers) as response, ExitStack() as others:
        lines = response.iter_lines()
        assert next(lines) == "event: expansion" and streams.requests == 1
        for _ in range(63):
            others.enter_context(streams.admit())
        assert_problem(fresh.http.get(path, headers=headers), 503, "overloaded")
        fresh.admin.delete(f"/v1/admin/keys/{key.split('_')[1]}").raise_for_status()
        assert "event: expansion" not in [*lines]  # nothing more, and its end
    wait_until(lambda: streams.requests == 0)


def test_a_client_that_reads_about_a_release_can_search_in_it(tmp_path: Path) -> None:
    with running(tmp_path, watch_seconds=60) as service:
        version = learn(service.context.registry, "cy")
        (expansion,) = service.admin.get(EXPANSIONS).json()["items"]
        assert service.admin.get(f"{EXPANSIONS}/{expansion['id']}").json()["version"] == version.number
        assert service.search("afal", language="cy").status_code == 200


def assert_code(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert the refusal of a dataset, which carries a report and is longer than others."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    body: dict[str, Any] = response.json()
    return body


def test_a_repeated_idempotency_key_gets_the_same_answer_after_the_gallery_changed(fresh: Service) -> None:
    """The dataset would be refused by now; the client only repeats its first request."""
    headers = {"Idempotency-Key": "once"}
    for number in range(10):
        assert fresh.put(f"p{number}").status_code == 201
    rows = map(json.loads, make_dataset().splitlines())
    data = "".join(json.dumps({**row, "picture": f"p{n % 10}"}) + "\n" for n, row in enumerate(rows)).encode()
    first = teach(fresh, data=data, headers=headers)
    assert first.status_code == 202
    fresh.admin.delete("/v1/pictures/p7")
    again = teach(fresh, data=data, headers=headers)
    assert (again.status_code, again.json()["expansion"]["id"]) == (202, first.json()["expansion"]["id"])
    assert_code(teach(fresh, data=data), 422, "picture_not_found")


def test_a_dataset_that_the_store_does_not_take_is_removed(tmp_path: Path, own_s3: S3Server) -> None:
    with running(tmp_path, store=own_s3.create_bucket()) as service:
        own_s3.kill()
        assert_problem(teach(service), 503, "store_unavailable")
        assert list((tmp_path / "expansions").iterdir()) == []
        assert list((tmp_path / "uploads").iterdir()) == []
        assert service.admin.get("/v1/expansions").json()["items"] == []
