"""Small datasets: the first ones of a language wait for each other, later ones join it."""

import json
from typing import Any

import httpx
import pytest

from store.errors import Conflict
from tests.service.harness import Service, assert_problem, assert_state_unchanged, learn
from tests.service.test_languages import teach
from tests.store.steps import promote, race, write


def make_few(start: int, count: int) -> bytes:
    rows = [{"caption": f"kernowek {n}", "english": f"a sentence {n}"} for n in range(start, start + count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_first_file_that_is_too_small_waits_until_the_next_one_joins_it(service: Service) -> None:
    def find(tag: str) -> Any:
        return next(item for item in service.admin.get("/v1/languages").json()["items"] if item["language"] == tag)

    checked = teach(service, "kw", make_few(0, 17), dry_run="true").json()
    assert checked["waiting"] == {"rows": 17, "needed": 64} and checked["dry_run"]
    assert service.context.registry.waiting.get("kw") == {}
    for _ in range(2):  # sent again, they count once
        kept = teach(service, "kw", make_few(0, 17))
        assert (kept.status_code, kept.json()["waiting"]) == (200, {"rows": 17, "needed": 64})
    assert (find("kw")["waiting"], find("kw")["version"]) == (17, None)
    assert teach(service, "kw", make_few(10, 20)).json()["waiting"]["rows"] == 30
    table = "english;kernewek\n" + "".join(f"a sentence {n};kernowek {n}\n" for n in range(30, 70))
    sent = teach(service, "kw", table.encode())
    assert sent.status_code == 202
    expansion = service.context.registry.expansions.get(sent.json()["expansion"]["id"])
    lines = (service.context.settings.home / str(expansion.dataset_path)).read_text().splitlines()
    assert {line["caption"] for line in map(json.loads, lines)} == {f"kernowek {n}" for n in range(70)}
    assert expansion.dataset_bytes == sum(len(line.encode()) + 1 for line in lines)
    registry = service.context.registry
    lease = registry.expansions.take_lease(expansion.id, "worker")
    assert lease is not None and len(registry.waiting.get("kw")) == 30, "it may fail"
    version = write(registry, lease, "kw", registry.releases.get_serving().shared)
    release = promote(registry, lease, version)
    assert registry.waiting.get("kw") == {}
    registry.expansions.succeed(lease, version.number, release.number, {})


def test_a_few_rows_may_join_a_language_that_is_taught(service: Service) -> None:
    learn(service.context.registry, "gv", report={"dataset": {"usable": 100}})
    joined = teach(service, "gv", make_few(0, 3), dry_run="true").json()
    assert (joined["waiting"], joined["joined"]) == (None, {"datasets": 1, "rows": 100})
    assert_problem(teach(service, "gv", make_few(0, 3), replace="true"), 422, "dataset_too_small")
    assert service.context.registry.waiting.get("gv") == {}
    assert teach(service, "gv", make_few(0, 3)).status_code == 202


@pytest.mark.row("E4")
def test_a_small_file_is_refused_while_its_language_is_taught_for_the_first_time(service: Service) -> None:
    id = teach(service, "x-first", make_few(0, 64)).json()["expansion"]["id"]
    with assert_state_unchanged(service):
        body = assert_problem(teach(service, "x-first", make_few(64, 3)), 409, "expansion_in_progress")
    assert body["expansion"] == id


def test_rows_that_wait_are_counted_and_join_the_next_file_of_a_language_that_is_taught(service: Service) -> None:
    registry = service.context.registry
    assert registry.waiting.keep("fo", [{"caption": "hundur", "english": "dog"}], "a", ())
    service.learn("fo")
    listed = {item["language"]: item for item in service.admin.get("/v1/languages").json()["items"]}
    assert (listed["fo"]["taught"], listed["fo"]["waiting"]) == (True, 1)
    sent = registry.expansions.get(teach(service, "fo", make_few(0, 3)).json()["expansion"]["id"])
    lines = (service.home / str(sent.dataset_path)).read_text().splitlines()
    assert {json.loads(line)["caption"] for line in lines} == {"hundur", *(f"kernowek {n}" for n in range(3))}


def test_two_small_files_sent_together_lose_no_row(service: Service) -> None:
    sent = race(*(lambda start=start: teach(service, "br", make_few(start, 40)) for start in (0, 40)))
    answers = [each for each in sent if isinstance(each, httpx.Response)]
    first, second = sorted(answers, key=lambda answer: answer.status_code)
    assert (first.status_code, second.status_code) == (200, 202)
    expansion = service.context.registry.expansions.cancel(second.json()["expansion"]["id"])
    assert expansion.dataset_bytes == len(make_few(0, 80))


def test_what_is_withdrawn_while_a_file_is_read_comes_not_back(service: Service) -> None:
    registry = service.context.registry
    for id in registry.expansions.list_ids("queued"):
        registry.expansions.cancel(id)
    assert registry.waiting.keep("ga", [{"caption": "madra", "english": "dog"}], "a", ())
    seen = registry.waiting.get("ga")
    assert not registry.waiting.keep("ga", [{"caption": "cat", "english": "cat"}], "b", ()) and len(seen) == 1
    registry.withdrawals.begin("ga", actor="a", reason="")
    assert not registry.waiting.keep("ga", [{"caption": "cat", "english": "cat"}], "b", seen)
    with pytest.raises(Conflict):
        registry.expansions.submit(kind="learn", language="ga", settings={}, actor="a", waiting=seen)
    assert registry.waiting.get("ga") == {}


def test_rows_whose_picture_or_pivot_is_gone_do_not_block_the_next_file(service: Service) -> None:
    gone: list[dict[str, Any]] = [
        {"caption": "ci", "picture": "deleted"},
        {"caption": "cath", "pivot": {"language": "gd", "text": "cat"}},
        {"caption": "ceffyl", "english": "horse", "picture": "deleted"},  # of which the English text is left
    ]
    assert service.context.registry.waiting.keep("cy", gone, "a", ())
    assert teach(service, "cy", make_few(0, 10)).json()["waiting"]["rows"] == 11
    sent = teach(service, "cy", make_few(10, 60))
    assert sent.status_code == 202, sent.text
