"""Rolling back and restoring over HTTP; races: tests/store."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.client.test_admin import answer_questions
from tests.client.test_commands import run, run_json
from tests.client.test_export import teach
from tests.service.harness import Service, assert_problem, assert_state_unchanged, hide_registry, running

ROUTES_BY_ID = (
    ("GET", "/v1/expansions/{}", "expansion_not_found"),
    ("GET", "/v1/expansions/{}/events", "expansion_not_found"),
    ("POST", "/v1/expansions/{}/cancel", "expansion_not_found"),
    ("DELETE", "/v1/admin/keys/{}", "key_not_found"),
)


@contextmanager
def run_taught(home: Path) -> Iterator[Service]:
    """Run a service that was taught Welsh, French, Welsh again."""
    with running(home) as service:
        for tag in ("cy", "fr", "cy"):
            service.learn(tag)
        service.put("a", en=["an apple"], cy=["afal"], fr=["une pomme"])
        yield service


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Service]:
    with run_taught(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For tests that change nothing."""
    with run_taught(tmp_path_factory.mktemp("kept")) as service:
        yield service


def roll_back(service: Service, tag: str, **more: Any) -> httpx.Response:
    return service.admin.post(f"/v1/admin/languages/{tag}/rollback", json=more)


def list_serving(service: Service) -> dict[str, int]:
    return {item["language"]: item["version"] for item in service.admin.get("/v1/languages").json()["items"]}


def list_answers(service: Service, *tags: str) -> list[object]:
    """List versions, pictures and scores of searches in these languages."""
    bodies = [service.search(f"query {n}", language=tag).json() for n in range(5) for tag in tags]
    return [(body["version"], [(item["id"], item["score"]) for item in body["items"]]) for body in bodies]


@pytest.mark.row("R2")
def test_a_language_goes_back_to_its_previous_version_and_others_stay(learned: Service) -> None:
    before = list_answers(learned, "en", "fr")
    body = roll_back(learned, "cy", reason="worse\nin two lines").json()
    assert (body["from_version"], body["to_version"], body["dry_run"]) == (3, 1, False)
    assert body["unchanged"] == ["en", "fr"]
    assert body["release"] == learned.context.live.current.release.number
    assert list_serving(learned) == {"en": 0, "cy": 1, "fr": 2}
    assert list_answers(learned, "en", "fr") == before


@pytest.mark.row("R2")
def test_a_language_without_a_previous_version_is_not_served_any_more(learned: Service) -> None:
    before = list_answers(learned, "en", "cy")
    body = roll_back(learned, "fr").json()
    assert (body["to_version"], body["shared_version"]) == (None, 1)
    assert_problem(learned.search("pomme", language="fr"), 404, "language_not_found")
    captions = learned.admin.get("/v1/pictures/a").json()["captions"]
    assert set(captions) == {"en", "cy"}
    assert list_answers(learned, "en", "cy") == before


@pytest.mark.row("R2")
def test_vectors_after_a_rollback_are_bitwise_what_they_were(learned: Service) -> None:
    body = {"input": ["afal", "pomme"], "language": "fr"}
    before = [item["embedding"] for item in learned.admin.post("/v1/embeddings", json=body).json()["data"]]
    roll_back(learned, "cy")
    after = [item["embedding"] for item in learned.admin.post("/v1/embeddings", json=body).json()["data"]]
    assert np.array(before, dtype="<f4").tobytes() == np.array(after, dtype="<f4").tobytes()


def test_a_rollback_needs_no_body(learned: Service) -> None:
    """None of its fields is required."""
    url = "/v1/admin/languages/cy/rollback"
    assert_problem(learned.admin.post(url, content=b"{}"), 415, "unsupported_media_type")  # what it is, must be said
    empty = learned.admin.post(url, headers={"Content-Type": "application/json"})
    assert_problem(empty, 400, "malformed_json")
    body = learned.admin.post(url).json()
    assert (body["to_version"], body["rebuild_expansion"], body["dry_run"]) == (1, None, False)


def test_a_dry_run_answers_the_same_and_changes_nothing(learned: Service) -> None:
    with assert_state_unchanged(learned):
        planned = roll_back(learned, "cy", dry_run=True).json()
    done = roll_back(learned, "cy").json()
    assert {**planned, "release": done["release"], "dry_run": False} == done


def test_a_rebuild_is_queued_when_the_shared_table_lost_a_language(learned: Service) -> None:
    body = roll_back(learned, "fr", rebuild=True).json()
    assert body["replay"] == ["cy"]
    expansion = learned.admin.get(f"/v1/expansions/{body['rebuild_expansion']}").json()
    assert (expansion["kind"], expansion["state"]) == ("rebuild", "queued")


@pytest.mark.row("R1")
def test_a_whole_release_is_restored_by_compare_and_set(learned: Service) -> None:
    latest, *_, first = learned.admin.get("/v1/admin/releases").json()["items"]
    stale = learned.admin.post(f"/v1/admin/releases/{first['number']}/restore", json={"expected": 1})
    assert_problem(stale, 409, "alias_moved")
    path = f"/v1/admin/releases/{first['number']}/restore"
    restored = learned.admin.post(path, json={"expected": latest["number"], "reason": "all wrong"})
    assert restored.status_code == 200
    assert restored.json()["languages"] == {"en": 0}
    assert list_serving(learned) == {"en": 0}
    newest = learned.admin.get("/v1/admin/releases").json()["items"][0]
    assert (newest["reason"], newest["actor"]) == ("all wrong", "admin")
    assert newest["change"] == {"kind": "restore", "restored": first["number"]}


NO_ROLLBACK = {
    "en": (409, "rollback_not_possible"),
    "de": (404, "language_not_found"),
    "en_US": (422, "language_tag_invalid"),
    "%2e%2e": (422, "language_tag_invalid"),
}
NO_RELEASE = dict.fromkeys(("99", "0", "-1", "9" * 12), (404, "release_not_found")) | {"x": (422, "invalid_request")}
WRONG_BODIES: list[tuple[str, Any]] = [
    *(("releases/1/restore", body) for body in ({}, {"expected": "4"}, {"expected": -1}, {"expected": 4, "x": 1})),
    *(("languages/cy/rollback", {"expected": value}) for value in (-1, "2", 1.5, True, 1 << 31)),
    *(("languages/cy/rollback", {"reason": reason}) for reason in ("a\0", "\x1b[2J", "\x7f")),
    ("releases/1/restore", {"expected": 4, "reason": "a\0"}),
]


@pytest.mark.row("R3")
@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        *((f"languages/{tag}/rollback", {}, *refused) for tag, refused in NO_ROLLBACK.items()),
        *((f"releases/{number}/restore", {"expected": 4}, *refused) for number, refused in NO_RELEASE.items()),
        *((path, body, 422, "invalid_request") for path, body in WRONG_BODIES),
    ],
)
def test_what_cannot_be_rolled_back_or_restored_is_refused(
    kept: Service, path: str, body: dict[str, object], status: int, code: str
) -> None:
    with assert_state_unchanged(kept):
        assert_problem(kept.admin.post(f"/v1/admin/{path}", json=body), status, code)


def test_releases_are_listed_page_by_page(kept: Service) -> None:
    first = kept.admin.get("/v1/admin/releases", params={"limit": 3}).json()
    second = kept.admin.get("/v1/admin/releases", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["number"] for item in first["items"] + second["items"]] == [4, 3, 2, 1]
    foreign = kept.admin.get("/v1/versions", params={"cursor": first["next_cursor"]})
    assert_problem(foreign, 422, "invalid_cursor")


def test_verification_checks_what_serves_and_lists_problems(kept: Service) -> None:
    body = kept.admin.post("/v1/admin/index/verify").json()
    assert body["release"] == 4
    assert not body["ok"]  # the versions of this test have no files
    assert str(kept.home) not in str(body)
    assert body["recall"]["share"] == 1.0 and body["recall"]["of"] == "captions"  # so few are compared one by one
    assert body["recall"]["depth"] is None is body["recall"]["unit"]


def test_a_malformed_id_is_not_found_without_reading_the_registry(tmp_path: Path) -> None:
    with running(tmp_path) as service, hide_registry(service):
        for id, (method, path, code) in product(("%00", "a%00", "a%20b", "%E2%82%AC", "a" * 65), ROUTES_BY_ID):
            assert_problem(service.admin.request(method, path.format(id)), 404, code)


def test_a_rollback_sent_twice_with_the_expected_release_happens_once(learned: Service) -> None:
    """Without `expected`, the second one takes the language back once more."""
    seen = learned.context.live.current.release.number
    assert roll_back(learned, "cy", expected=seen).json()["to_version"] == 1
    with assert_state_unchanged(learned):
        body = assert_problem(roll_back(learned, "cy", expected=seen), 409, "alias_moved")
    assert body["release"] == seen + 1
    assert roll_back(learned, "cy").json()["to_version"] is None


def test_an_idempotency_key_gives_the_first_answer_again(learned: Service) -> None:
    headers = {"Idempotency-Key": "a1"}
    path = "/v1/admin/languages/cy/rollback"
    first = learned.admin.post(path, json={"reason": "worse"}, headers=headers)
    with assert_state_unchanged(learned):
        again = learned.admin.post(path, json={"reason": "worse"}, headers=headers)
        assert again.json() == first.json() and first.json()["to_version"] == 1
        other = learned.admin.post(path, json={"reason": "another"}, headers=headers)
        assert_problem(other, 422, "idempotency_key_reused")
        elsewhere = learned.admin.post("/v1/admin/languages/fr/rollback", json={"reason": "worse"}, headers=headers)
        assert_problem(elsewhere, 422, "idempotency_key_reused")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Welsh was taught and rolled back, then German and French were taught: releases 2 to 5."""
    with running(tmp_path / "home") as service:
        service.learn("cy")
        (service.home / "versions").mkdir()
        folder = service.home / str(service.context.registry.versions.get(1).folder)
        folder.mkdir()
        (folder / "rows").write_bytes(b"x")
        assert service.admin.post("/v1/admin/languages/cy/rollback", json={}).status_code == 200
        for tag in ("de", "fr"):
            service.learn(tag)
        yield service


def test_a_dry_run_says_what_goes_and_why_and_changes_nothing(service: Service) -> None:
    with assert_state_unchanged(service):
        answer = service.admin.post("/v1/admin/prune", json={"keep": 2, "dry_run": True}).json()
    assert (answer["release"], answer["oldest"], answer["dry_run"]) == (5, 4, True)
    version, vectors, dataset = answer["items"]
    assert version == {
        "what": "version",
        "name": "version 1",
        "language": "cy",
        "why": "no release since release 4 names it, nor a rollback from one",
        "bytes": service.context.registry.versions.get(1).bytes,
    }
    assert (vectors["what"], vectors["name"].split("-")[:3]) == ("vectors", ["captions", "cy", "1"])
    assert dataset["what"] == "dataset" and answer["bytes"] == sum(item["bytes"] for item in answer["items"]) > 4096


def test_by_default_ten_releases_stay_in_reach(service: Service) -> None:
    answer = service.admin.post("/v1/admin/prune", json={}).json()
    assert (answer["oldest"], answer["items"], answer["dry_run"]) == (1, [], False)


def test_what_was_pruned_stays_listed_and_cannot_be_restored(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    before = service.admin.get("/v1/admin/releases").json()["items"]
    with caplog.at_level(logging.INFO, "pictoglot.admin"):
        assert len(service.admin.post("/v1/admin/prune", json={"keep": 2, "expected": 5}).json()["items"]) == 3
    (record,) = [record for record in caplog.records if record.name == "pictoglot.admin"]
    assert record.getMessage() == "pruned up to release 4: version 1"
    assert record.key == "admin"  # type: ignore[attr-defined]
    releases = service.admin.get("/v1/admin/releases").json()["items"]
    assert [{**release, "pruned": []} for release in releases] == before
    assert {release["number"]: release["pruned"] for release in releases} == {5: [], 4: [], 3: [], 2: [1], 1: []}
    (act,) = service.admin.get("/v1/admin/audit?act=POST+/v1/admin/prune&since=0001-01-01T00:00:00Z").json()["items"]
    assert (act["actor"], act["targets"]["version 1"]) == ("admin", "pruned")
    version = service.admin.get("/v1/versions/1").json()
    assert version["pruned_at"] and (version["manifest"], version["digests"]) == (None, {})
    assert service.admin.get("/v1/versions/1/report").status_code == 200
    with assert_state_unchanged(service):
        refused = service.admin.post("/v1/admin/releases/2/restore", json={"expected": 5})
        assert assert_problem(refused, 409, "version_pruned")["versions"] == [1]
    assert service.admin.post("/v1/admin/releases/4/restore", json={"expected": 5}).status_code == 200


@pytest.mark.parametrize("again", ["rolled back", "replaced"])
def test_reports_quote_no_caption_that_was_pruned(fresh: Service, again: str) -> None:
    """Rolled back, as the guide says to be rid of a caption; or replaced, when later versions need the files."""
    quoted = {"new": ["kuzh"], "test": {"asked": 9, "missed": ["kuzh"]}, "pairs": 9, "letters": ["ñ"]}
    doubt = {"code": "pairs_unrelated", "detail": "line 3 says “kuzh” = “fish”", "rows": []}
    expansion = teach(fresh, "br", b"kuzh", quoted, doubts=[doubt])
    if again == "rolled back":
        fresh.admin.post("/v1/admin/languages/br/rollback", json={}).raise_for_status()
    for _ in range(3 if again == "replaced" else 1):
        teach(fresh, "br", b"skeudenn", replace=True)
    paths = (f"/v1/expansions/{expansion}", "/v1/versions/1", "/v1/versions/1/report")
    assert ["kuzh" in fresh.admin.get(path).text for path in paths] == [True] * 3
    fresh.admin.post("/v1/admin/prune", json={"keep": 2}).raise_for_status()
    assert ["kuzh" in fresh.admin.get(path).text for path in paths] == [False] * 3
    assert (fresh.home / f"versions/{expansion}").exists() == (again == "replaced")
    report = fresh.admin.get("/v1/versions/1").json()["report"]
    assert (report["pairs"], report["test"]) == (9, {"asked": 9}) and "letters" not in report


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"keep": 1}, 422, "invalid_request"),
        ({"keep": "2"}, 422, "invalid_request"),
        ({"versions": [1]}, 422, "invalid_request"),
        ({"keep": 2, "expected": 4}, 409, "alias_moved"),
        ({"keep": 2, "expected": 4, "dry_run": True}, 409, "alias_moved"),
    ],
)
def test_a_refused_pruning_changes_nothing(service: Service, body: object, status: int, code: str) -> None:
    with assert_state_unchanged(service):
        assert_problem(service.admin.post("/v1/admin/prune", json=body), status, code)


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_dry_run_of_the_command_prints_what_why_and_how_much(service: Service) -> None:
    with assert_state_unchanged(service):
        shown = run(service, "prune", "--dry-run", "--keep", "2")
        as_program = run_json(service, "prune", "--dry-run", "--keep", "2")
    assert shown.exit_code == 0
    for part in ("version 1", "no release since release 4 names it", "captions-cy-1", "0.0 MB", "Releases 4 to 5 stay"):
        assert part in shown.stdout
    assert as_program["dry_run"] and len(as_program["items"]) == 3
    assert "There is nothing to remove: releases 1 to 5" in run(service, "prune", "--dry-run").stdout
    empty = run_json(service, "prune")
    assert not empty["dry_run"] and empty["items"] == []


def test_on_a_terminal_the_command_asks_and_removes_what_it_showed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_questions(monkeypatch, lambda question: False)
    with assert_state_unchanged(service):
        assert run(service, "prune", "--keep", "2").exit_code == 0
    answer_questions(monkeypatch, lambda question: bool(service.learn("es")))
    refused = run(service, "prune", "--keep", "2")
    assert refused.exit_code == 2 and "Nothing was changed: release 6 serves now." in refused.stderr
    answer_questions(monkeypatch, lambda question: question == "Delete all this for good?")
    assert "Done." in run(service, "prune", "--keep", "2").stdout
    assert service.context.registry.versions.find_pruned() == {1}


@pytest.mark.parametrize("option", ["--yes", "--json"])
def test_a_program_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    answer_questions(monkeypatch, lambda question: pytest.fail("asked"))
    result = run(service, "prune", "--keep", "2", option)
    assert result.exit_code == 0 and "captions-cy-1" in result.stdout
    assert "pruned" in run(service, "versions").stdout and "pruned" in run(service, "releases").stdout
    restored = run(service, "releases", "--restore", "2", "--expected", "5")
    assert restored.exit_code == 2 and "This needs version 1, whose files were pruned." in restored.stderr
