"""`rollback`, `versions`, `releases`, `keys` against a real server: what was confirmed is what happens."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from service.cli import admin
from tests.service.harness import Service, running
from tests.service.test_cli import as_json, run


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """English and German."""
    with running(tmp_path / "home") as service:
        service.learn("de")
        yield service


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, confirm: Callable[[str], bool]) -> None:
    """Answer the question of `rollback` by `confirm`."""
    monkeypatch.setattr(admin, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr("typer.confirm", confirm)


def served(service: Service) -> dict[str, int]:
    """Language and version of all that is served."""
    return {item["language"]: item["version"] for item in as_json(service, "languages")["items"]}


def test_a_dry_run_of_a_rollback_changes_nothing(service: Service) -> None:
    before = as_json(service, "releases")
    result = run(service, "rollback", "de", "--dry-run")
    assert "de: version 1 → not served" in result.stdout
    assert "unchanged, bit for bit: en" in result.stdout
    assert as_json(service, "releases") == before


def test_a_rollback_is_done_and_the_release_restored(service: Service) -> None:
    before = as_json(service, "languages")["release"]
    done = as_json(service, "rollback", "de", "--reason", "a test")  # without a terminal there is no question
    assert [item["language"] for item in as_json(service, "languages")["items"]] == ["en"]
    arguments = ("releases", "--restore", str(before), "--expected", str(done["release"]))
    assert as_json(service, *arguments)["languages"]["de"] == 1
    assert "a test" in run(service, "releases").stdout
    assert run(service, *arguments).exit_code == 2  # another release serves by now


def test_versions_are_listed_newest_first(service: Service) -> None:
    assert [item["number"] for item in as_json(service, "versions")["items"]] == [1, 0]
    assert "language" in run(service, "versions").stdout


def test_a_key_is_made_used_and_revoked(service: Service) -> None:
    made = as_json(service, "keys", "create", "search", "--label", "page")
    assert run(service, "languages", key=made["key"]).exit_code == 0
    assert made["key"] not in run(service, "keys", "list").stdout
    assert run(service, "keys", "revoke", made["id"]).exit_code == 0
    assert run(service, "languages", key=made["key"]).exit_code == 2


def test_a_plan_says_which_release_it_is_based_on(service: Service) -> None:
    release = as_json(service, "languages")["release"]
    assert f"based on: release {release}, which serves now" in run(service, "rollback", "de", "--dry-run").stdout


def test_a_confirmed_rollback_does_what_was_shown(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch, lambda question: question == "Roll back?")
    assert run(service, "rollback", "de").exit_code == 0
    assert served(service) == {"en": 0}


def test_a_rollback_is_refused_when_another_release_serves_than_the_one_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, lambda question: bool(service.learn("fr")))
    result = run(service, "rollback", "de")
    release = as_json(service, "languages")["release"]
    assert result.exit_code == 2
    assert f"Nothing was changed: release {release} serves now. Look again before you decide." in result.stderr
    assert set(served(service)) == {"de", "en", "fr"}


def test_a_script_names_the_release_that_it_has_seen(service: Service) -> None:
    release = as_json(service, "languages")["release"]
    service.learn("fr")
    assert run(service, "rollback", "de", "--expected", str(release)).exit_code == 2
    assert run(service, "rollback", "de", "--dry-run", "--expected", str(release)).exit_code == 2
    assert "de" in served(service)
    assert run(service, "rollback", "de", "--expected", str(release + 1)).exit_code == 0
    assert set(served(service)) == {"en", "fr"}


def test_a_rollback_that_arrives_twice_happens_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.learn("de")
    first, second = sorted(item["number"] for item in as_json(service, "versions")["items"] if item["number"])
    assert served(service)["de"] == second
    send = httpx.HTTPTransport.handle_request

    def twice(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/rollback"):
            send(transport, request).read()
        return send(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", twice)
    assert as_json(service, "rollback", "de")["to_version"] == first
    assert served(service)["de"] == first
    assert as_json(service, "rollback", "de")["to_version"] is None, "the next run is a new request"
