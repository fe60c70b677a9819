"""`rollback`, `versions`, `releases`, `keys` against a real server: what was confirmed is what happens."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from client import output
from client.main import app
from tests.client.test_commands import as_json, run
from tests.service.harness import ADMIN_KEY, Service, running


class Lossy:
    """A proxy that passes each request on, and drops the answers to the first `drops` rollbacks that are made."""

    def __init__(self, service: Service, drops: int) -> None:
        self.drops, self.keys, self.bodies = drops, list[str | None](), list[dict[str, Any]]()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                sent = {name: self.headers[name] for name in ("Authorization", "Idempotency-Key", "Content-Type")}
                headers = {name: value for name, value in sent.items() if value}
                answer = service.http.post(self.path, content=content, headers=headers)
                if not json.loads(content).get("dry_run"):
                    proxy.keys.append(self.headers["Idempotency-Key"])
                    proxy.bodies.append(json.loads(content))
                    if len(proxy.keys) <= proxy.drops:
                        return  # the connection is closed without an answer
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["content-type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    def run(self, *arguments: str) -> Result:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return CliRunner().invoke(app, arguments, env={"PICTOGLOT_URL": url, "PICTOGLOT_KEY": ADMIN_KEY})


@pytest.fixture
def lossy(service: Service) -> Iterator[Callable[[int], Lossy]]:
    """Makes proxies before the service; they end with the test."""
    made: list[Lossy] = []

    def make(drops: int) -> Lossy:
        made.append(Lossy(service, drops))
        return made[-1]

    yield make
    for proxy in made:
        proxy.server.shutdown()
        proxy.server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """English and German."""
    with running(tmp_path / "home") as service:
        service.learn("de")
        yield service


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, confirm: Callable[[str], bool]) -> None:
    """Answer the question of a command by `confirm`."""
    monkeypatch.setattr(output, "has_person", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)


def served(service: Service) -> dict[str, int]:
    """Language and version of all that is served."""
    return {item["language"]: item["version"] for item in as_json(service, "languages")["items"]}


def test_a_dry_run_of_a_rollback_changes_nothing(service: Service) -> None:
    before = as_json(service, "releases")
    result = run(service, "rollback", "de", "--dry-run")
    assert "de: version 1 → not served" in result.stdout
    assert "unchanged, bit for bit: en" in result.stdout
    assert f"based on: release {as_json(service, 'languages')['release']}, which serves now" in result.stdout
    assert as_json(service, "releases") == before


def test_a_rollback_is_done_and_the_release_restored(service: Service) -> None:
    before = as_json(service, "languages")["release"]
    done = as_json(service, "rollback", "de", "--reason", "a test")  # without a terminal there is no question
    assert [item["language"] for item in as_json(service, "languages")["items"]] == ["en"]
    arguments = ("releases", "--restore", str(before), "--expected", str(done["release"]))
    assert as_json(service, *arguments)["languages"]["de"] == 1
    assert "a test" in run(service, "releases").stdout
    assert run(service, *arguments).exit_code == 2  # another release serves by now


def test_a_rollback_says_how_to_undo_it_and_a_release_is_restored_after_a_look_at_what_changes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = as_json(service, "languages")["release"]
    undo = f"`pictoglot releases --restore {release}` undoes this."
    assert f"Release {release + 1} serves. {undo}" in run(service, "rollback", "de").stdout
    restore = ("releases", "--restore", str(release))
    refused = run(service, *restore)  # without a terminal nobody is asked
    assert (refused.exit_code, served(service)) == (2, {"en": 0})
    assert f"`--expected {release + 1}`" in refused.stderr
    on_a_terminal(monkeypatch, lambda question: question != "Restore it?")
    looked = run(service, *restore).stdout
    assert served(service) == {"en": 0}
    assert looked.splitlines() == [
        "de: not served → version 1",
        "shared table: version 0 → version 1",
        "unchanged: en",
        f"based on: release {release + 1}, which serves now",
    ]
    on_a_terminal(monkeypatch, lambda question: True)
    done = run(service, *restore).stdout
    assert served(service) == {"de": 1, "en": 0}
    assert f"Release {release + 2} serves. `pictoglot releases --restore {release + 1}` undoes this." in done


def test_a_release_is_not_restored_when_another_one_serves_than_the_one_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, lambda question: bool(service.learn("fr")))
    refused = run(service, "releases", "--restore", "1")
    assert refused.exit_code == 2 and "alias_moved" in refused.stderr
    assert set(served(service)) == {"de", "en", "fr"}
    assert as_json(service, "releases", "--restore", "1", "--yes")["languages"] == {"en": 0}


def test_versions_are_listed_and_a_key_is_made_used_and_revoked(service: Service) -> None:
    assert [item["number"] for item in as_json(service, "versions")["items"]] == [1, 0]
    assert "language" in run(service, "versions").stdout
    bound = ("--collection", "archive", "--collection", "museum")
    made = as_json(service, "keys", "create", "search", "--label", "page", *bound)
    assert made["collections"] == ["archive", "museum"]
    assert run(service, "languages", key=made["key"]).exit_code == 0
    listed = run(service, "keys", "list").stdout
    assert made["key"] not in listed and "archive, museum" in listed
    assert run(service, "keys", "revoke", made["id"]).exit_code == 0
    assert run(service, "languages", key=made["key"]).exit_code == 2


def test_a_rollback_is_refused_when_another_release_serves_than_the_one_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, lambda question: bool(service.learn("fr")))
    result = run(service, "rollback", "de")
    release = as_json(service, "languages")["release"]
    assert result.exit_code == 2
    assert f"Nothing was changed: release {release} serves now. Look again before you decide." in result.stderr
    assert set(served(service)) == {"de", "en", "fr"}
    on_a_terminal(monkeypatch, lambda question: question == "Roll back?")
    assert run(service, "rollback", "de").exit_code == 0
    assert set(served(service)) == {"en", "fr"}


def test_a_script_names_the_release_that_it_has_seen(service: Service) -> None:
    release = as_json(service, "languages")["release"]
    service.learn("fr")
    assert run(service, "rollback", "de", "--expected", str(release)).exit_code == 2
    assert run(service, "rollback", "de", "--dry-run", "--expected", str(release)).exit_code == 2
    assert "de" in served(service)
    assert run(service, "rollback", "de", "--expected", str(release + 1)).exit_code == 0
    assert set(served(service)) == {"en", "fr"}


def test_a_rollback_whose_answer_is_lost_is_sent_again_and_happens_once(
    service: Service, lossy: Callable[[int], Lossy]
) -> None:
    service.learn("de")
    before, proxy = as_json(service, "languages")["release"], lossy(1)
    result = proxy.run("rollback", "de", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["release"] == before + 1
    assert as_json(service, "languages")["release"] == before + 1
    assert served(service)["de"] == 1, "one version back, not two"
    assert len(proxy.keys) == 2 and len(set(proxy.keys)) == 1 and proxy.keys[0]


def test_a_rollback_without_any_answer_ends_with_what_is_not_known(
    service: Service, lossy: Callable[[int], Lossy]
) -> None:
    before, proxy = as_json(service, "languages")["release"], lossy(9)
    result = proxy.run("rollback", "de", "--yes")
    assert result.exit_code == 1
    assert result.stderr == (
        f"It is not known whether this was done. Release {before} served before; "
        "look with `pictoglot releases`, then decide.\n"
    )
    assert len(proxy.keys) == 2
    assert as_json(service, "languages")["release"] == before + 1


def test_a_rollback_that_never_reached_the_service_says_so() -> None:
    result = run(None, "rollback", "de", "--expected", "1")
    assert result.exit_code == 1
    assert "No service answers at" in result.stderr


def test_a_rollback_that_asks_nobody_is_based_on_its_plan_too(service: Service, lossy: Callable[[int], Lossy]) -> None:
    release, proxy = as_json(service, "languages")["release"], lossy(0)
    assert proxy.run("rollback", "de", "--json").exit_code == 0
    assert [body["expected"] for body in proxy.bodies] == [release]
