"""`rollback`, `versions`, `releases`, `keys` against a real server: what was confirmed is what happens."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from client import terminal
from tests.client.test_commands import run, run_json
from tests.service.harness import Service, share_service


def lose_answers(monkeypatch: pytest.MonkeyPatch, drops: int, act: str = "rollback") -> list[Any]:
    """Drop the answers to the first rollbacks, or other acts; returns what is sent: key and body of each."""
    post, sent = httpx.Client.post, list[Any]()

    def lossy(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        response = post(self, url, **more)
        if url.endswith(f"/{act}") and not more["json"].get("dry_run"):
            sent.append((more["headers"]["Idempotency-Key"], more["json"]))
            if len(sent) <= drops:
                raise httpx.ReadError("the connection was closed without an answer")
        return response

    monkeypatch.setattr(httpx.Client, "post", lossy)
    return sent


service = share_service(lambda service: service.learn("de"), scope="function")


def answer_questions(monkeypatch: pytest.MonkeyPatch, confirm: Callable[[str], bool]) -> None:
    monkeypatch.setattr(terminal, "has_person", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)


def list_served(service: Service) -> dict[str, int]:
    return {item["language"]: item["version"] for item in run_json(service, "languages")["items"]}


def test_a_rollback_is_shown_and_done_and_a_release_restored_after_a_look_at_what_changes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, before = run_json(service, "languages")["release"], run_json(service, "releases")
    plan = run(service, "rollback", "de", "--dry-run").stdout.splitlines()
    expected = ("unchanged, bit for bit: en", f"based on: release {release}, which serves now")
    assert {"de: version 1 → not served", *expected} < {*plan}
    assert run_json(service, "releases") == before
    done = run(service, "rollback", "de", "--reason", "a test").stdout  # without a terminal there is no question
    assert f"Release {release + 1} serves. `pictoglot releases --restore {release}` undoes this." in done
    restore = ("releases", "--restore", str(release))
    refused = run(service, *restore)  # without a terminal nobody is asked
    assert (refused.exit_code, list_served(service)) == (2, {"en": 0})
    assert f"`--expected {release + 1}`" in refused.stderr
    answer_questions(monkeypatch, lambda question: question != "Restore it?")
    looked = run(service, *restore).stdout
    assert list_served(service) == {"en": 0}
    assert looked.splitlines() == [
        "de: not served → version 1",
        "shared table: version 0 → version 1",
        "unchanged: en",
        f"based on: release {release + 1}, which serves now",
    ]
    answer_questions(monkeypatch, lambda question: True)
    done = run(service, *restore).stdout
    assert list_served(service) == {"de": 1, "en": 0}
    assert f"Release {release + 2} serves. `pictoglot releases --restore {release + 1}` undoes this." in done
    assert "a test" in run(service, "releases").stdout
    assert run(service, *restore, "--expected", str(release + 1)).exit_code == 2  # another release serves by now


def test_a_release_is_not_restored_when_another_one_serves_than_the_one_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_questions(monkeypatch, lambda question: bool(service.learn("fr")))
    refused = run(service, "releases", "--restore", "1")
    assert refused.exit_code == 2 and "alias_moved" in refused.stderr
    assert set(list_served(service)) == {"de", "en", "fr"}
    assert run_json(service, "releases", "--restore", "1", "--yes")["languages"] == {"en": 0}


def test_versions_are_listed_and_a_key_is_made_used_and_revoked(service: Service) -> None:
    assert [item["number"] for item in run_json(service, "versions")["items"]] == [1, 0]
    assert "language" in run(service, "versions").stdout
    bound = ("--collection", "archive", "--collection", "museum")
    made = run_json(service, "keys", "create", "search", "--label", "page", *bound)
    assert made["collections"] == ["archive", "museum"]
    assert run(service, "languages", key=made["key"]).exit_code == 0
    listed = run(service, "keys", "list").stdout
    assert made["key"] not in listed and "archive, museum" in listed
    admin = run_json(service, "keys", "create", "admin", "--label", "Ada")
    assert run(service, "keys", "revoke", made["id"], key=admin["key"]).exit_code == 0
    assert f"Ada ({admin['id']})" in run(service, "audit", "--target", made["id"]).stdout
    assert run(service, "languages", key=made["key"]).exit_code == 2


def test_a_rollback_is_refused_when_another_release_serves_than_the_one_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_questions(monkeypatch, lambda question: bool(service.learn("fr")))
    result = run(service, "rollback", "de")
    release = run_json(service, "languages")["release"]
    assert result.exit_code == 2
    assert f"Nothing was changed: release {release} serves now. Look again before you decide." in result.stderr
    assert set(list_served(service)) == {"de", "en", "fr"}
    answer_questions(monkeypatch, lambda question: question == "Roll back?")
    assert run(service, "rollback", "de").exit_code == 0
    assert set(list_served(service)) == {"en", "fr"}


def test_a_script_names_the_release_that_it_has_seen(service: Service) -> None:
    release = run_json(service, "languages")["release"]
    service.learn("fr")
    assert run(service, "rollback", "de", "--expected", str(release)).exit_code == 2
    assert run(service, "rollback", "de", "--dry-run", "--expected", str(release)).exit_code == 2
    assert "de" in list_served(service)
    assert run(service, "rollback", "de", "--expected", str(release + 1)).exit_code == 0
    assert set(list_served(service)) == {"en", "fr"}


def test_a_rollback_whose_answer_is_lost_is_sent_again_and_happens_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.learn("de")
    before, sent = run_json(service, "languages")["release"], lose_answers(monkeypatch, 1)
    assert run_json(service, "rollback", "de")["release"] == before + 1
    assert run_json(service, "languages")["release"] == before + 1
    assert list_served(service)["de"] == 1, "one version back, not two"
    assert len(sent) == 2 and sent[0] == sent[1] and sent[0][0]
    assert sent[0][1]["expected"] == before, "who asks nobody is based on the plan too"


def test_a_rollback_without_any_answer_ends_with_what_is_not_known(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, sent = run_json(service, "languages")["release"], lose_answers(monkeypatch, 9)
    result = run(service, "rollback", "de", "--yes")
    assert (result.exit_code, len(sent)) == (1, 2)
    assert result.stderr == (
        f"It is not known whether this was done. Release {before} served before; "
        "look with `pictoglot releases`, then decide.\n"
    )
    assert run_json(service, "languages")["release"] == before + 1


def test_a_rollback_that_never_reached_the_service_says_so() -> None:
    result = run(None, "rollback", "de", "--expected", "1")
    assert result.exit_code == 1
    assert "No service answers at" in result.stderr
