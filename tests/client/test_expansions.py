"""What `learn` and `expansions` say of one that waits, fails or is not heard of: why, and what to do next."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.client.test_commands import make_rows, run, run_json
from tests.service.harness import Service, running, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """English alone."""
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


@pytest.fixture
def queued(service: Service, tmp_path: Path) -> Iterator[str]:
    """The id of an expansion that teaches Welsh; its dataset is `cy.jsonl`."""
    (tmp_path / "cy.jsonl").write_text(make_rows(80))
    id = str(run_json(service, "learn", "cy", str(tmp_path / "cy.jsonl"))["id"])
    yield id
    service.admin.post(f"/v1/expansions/{id}/cancel")


def fail(service: Service, id: str, detail: str, refused_by: str, **more: Any) -> None:
    """End the expansion at the gate, as a worker ends it; in whatever way, it has gained nothing."""
    registry = service.context.registry
    lease = registry.expansions.take_lease(id, "test")
    assert lease is not None
    report = {"gain": {"enough": False}, "refused_by": refused_by, **more}
    registry.expansions.fail(lease, "gate_failed", detail, report)


def test_who_teaches_twice_is_told_how_to_watch_the_first(service: Service, queued: str, tmp_path: Path) -> None:
    again = run(service, "assess", "cy", str(tmp_path / "cy.jsonl"))
    assert again.exit_code == 2
    assert f"`pictoglot expansions {queued} --watch` shows its progress." in again.stderr
    other = run(service, "learn", "br", str(tmp_path / "cy.jsonl")).stdout
    id = other.split()[1]
    assert other == f"Expansion {id} is queued.\nWatch it with `pictoglot expansions {id} --watch`.\n"
    service.admin.post(f"/v1/expansions/{id}/cancel").raise_for_status()


@pytest.mark.parametrize("refused_by", ["gain", "floor"])
def test_why_one_failed_is_told_without_watching_and_with_a_way_out_only_where_there_is_one(
    service: Service, queued: str, refused_by: str
) -> None:
    fail(service, queued, "Welsh is read worse", refused_by)
    result = run(service, "expansions", queued)
    assert "gate failed" in result.stdout and "Welsh is read worse." in result.stderr
    assert ("`pictoglot learn cy FILE --force`" in result.stderr) == (refused_by == "gain")
    watched = run(service, "expansions", queued, "--watch")
    assert (watched.exit_code, watched.stderr) == (1, f"cy failed.\n{result.stderr}")
    assert "`pictoglot expansions ID` says why one of them failed." in run(service, "expansions").stderr
    assert run_json(service, "expansions", queued)["error"]["code"] == "gate_failed"


def test_what_was_to_replace_is_forced_as_that(service: Service, queued: str) -> None:
    fail(service, queued, "Welsh is read worse", "gain", replaced={"datasets": 1}, dataset={"missing": 2})
    output = run(service, "expansions", queued).stderr
    assert "`pictoglot learn cy FILE --replace --without-missing --force`" in output


def test_a_watch_says_that_it_waits_for_a_service_that_is_away(
    service: Service, queued: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("client.commands.languages.errors", Console(file=terminal, force_terminal=True, width=120))

    def pause(seconds: float, stopping: object = None) -> None:
        if not seconds:  # before a request
            return
        assert seconds >= 0.5, "a service that stops is not asked again at once"
        wait_until(lambda: "waiting for the service" in terminal.getvalue())  # the bar draws ten times a second
        service.context.stopping.clear()
        service.admin.post(f"/v1/expansions/{queued}/cancel").raise_for_status()

    service.context.stopping.set()  # its streams end at once
    monkeypatch.setattr("client.api.pause", pause)
    assert run(service, "expansions", queued, "--watch").exit_code == 1
    last = terminal.getvalue().split("waiting for the service")[-1]
    assert "cancelled" in last, "what it is at is shown again"
