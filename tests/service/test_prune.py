"""`POST /v1/admin/prune` and `pictoglot prune`: what was shown is what goes; what is gone is refused plainly."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.test_admin import on_a_terminal
from tests.client.test_commands import as_json, run
from tests.service.harness import Service, assert_problem, assert_state_unchanged, running


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
    version = service.admin.get("/v1/versions/1").json()
    assert version["pruned_at"] and (version["manifest"], version["digests"]) == (None, {})
    assert service.admin.get("/v1/versions/1/report").status_code == 200
    with assert_state_unchanged(service):
        refused = service.admin.post("/v1/admin/releases/2/restore", json={"expected": 5})
        assert assert_problem(refused, 409, "version_pruned")["versions"] == [1]
    assert service.admin.post("/v1/admin/releases/4/restore", json={"expected": 5}).status_code == 200


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
        as_program = as_json(service, "prune", "--dry-run", "--keep", "2")
    assert shown.exit_code == 0
    for part in ("version 1", "no release since release 4 names it", "captions-cy-1", "0.0 MB", "Releases 4 to 5 stay"):
        assert part in shown.stdout
    assert as_program["dry_run"] and len(as_program["items"]) == 3
    assert "There is nothing to remove: releases 1 to 5" in run(service, "prune", "--dry-run").stdout


def test_on_a_terminal_the_command_asks_and_removes_what_it_showed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, lambda question: False)
    with assert_state_unchanged(service):
        assert run(service, "prune", "--keep", "2").exit_code == 0
    on_a_terminal(monkeypatch, lambda question: bool(service.learn("es")))
    refused = run(service, "prune", "--keep", "2")
    assert refused.exit_code == 2 and "Nothing was changed: release 6 serves now." in refused.stderr
    on_a_terminal(monkeypatch, lambda question: question == "Remove all this for ever?")
    assert "Done." in run(service, "prune", "--keep", "2").stdout
    assert service.context.registry.versions.pruned() == {1}


@pytest.mark.parametrize("option", ["--yes", "--json"])
def test_a_program_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    on_a_terminal(monkeypatch, lambda question: pytest.fail("asked"))
    result = run(service, "prune", "--keep", "2", option)
    assert result.exit_code == 0 and "captions-cy-1" in result.stdout
    assert "pruned" in run(service, "versions").stdout and "pruned" in run(service, "releases").stdout
    restored = run(service, "releases", "--restore", "2", "--expected", "5")
    assert restored.exit_code == 2 and "This needs version 1, whose files were pruned." in restored.stderr
