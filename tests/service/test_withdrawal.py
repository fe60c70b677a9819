"""Withdrawing a language over HTTP and on the command line, and checking its certificate."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.client.test_commands import run, run_json
from tests.client.test_export import teach
from tests.service.harness import Service, assert_problem, assert_state_unchanged, running

PATH = "/v1/admin/languages/br/withdraw"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Breton, taught by a dataset, and German, taught upon it."""
    with running(tmp_path / "home") as service:
        teach(service, "br", b"skeudenn")
        teach(service, "de", b"Bild")
        yield service


def test_what_cannot_be_withdrawn_is_refused(service: Service) -> None:
    with assert_state_unchanged(service):
        for tag, status, code in (("cy", 404, "language_not_found"), ("en", 409, "rollback_not_possible")):
            for dry_run in (True, False):
                path, body = PATH.replace("br", tag), {"dry_run": dry_run}
                assert_problem(service.admin.post(path, json=body), status, code)
        assert_problem(service.admin.post(PATH, json={"expected": 1}), 409, "alias_moved")
        assert_problem(service.admin.get("/v1/admin/languages/br/withdrawal"), 404, "withdrawal_not_found")


def test_a_language_is_withdrawn_by_one_command_and_its_certificate_holds(service: Service, tmp_path: Path) -> None:
    service.admin.put(
        "/v1/languages/br/terms", json={"owner": "Skol", "contact": "skol@example.org"}
    ).raise_for_status()
    with assert_state_unchanged(service):
        shown = run(service, "withdraw", "br", "--dry-run").stdout.splitlines()
    assert shown[0] == "br: 1 version, 1 dataset, 0 taught captions, 0 answers, 0.0 MB."
    kept = (
        "version 1\tde (version 2) was taught upon its rows of the table; while any version needs them its files stay"
    )
    assert f"{kept}, with words and held-out captions" in shown
    assert any(line.startswith("terms\t") and "owner, contact" in line for line in shown)
    file = tmp_path / "certificate.json"
    result = run(service, "withdraw", "br", "--yes", "--reason", "ours", "--out", str(file))
    assert result.stdout.splitlines()[-1] == f"Withdrawn; release 4 serves. The certificate is {file}."
    certificate = json.loads(file.read_text())
    assert certificate == service.admin.get("/v1/admin/languages/br/withdrawal").json()
    again = run_json(service, "withdraw", "br", "--yes", "--out", str(tmp_path / "again"))
    assert again["certificate"] == certificate == json.loads((tmp_path / "again").read_text()), "again: the same end"
    served = {item["language"] for item in service.admin.get("/v1/languages").json()["items"]}
    assert served == {"en", "de"}
    assert service.admin.get("/v1/versions/1/datasets").json()["items"][0]["kept"] is False
    refused = service.admin.post("/v1/admin/releases/3/restore", json={"expected": 4})
    assert_problem(refused, 409, "version_pruned")

    signature, key = (b64decode(certificate[name]) for name in ("signature", "public_key"))
    signed = {name: value for name, value in certificate.items() if name != "signature"}
    text = json.dumps(signed, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())  # raises if it is another's
    assert (service.home / "signing.key").stat().st_mode & 0o077 == 0


def test_a_language_that_is_taught_again_is_withdrawn_anew(service: Service) -> None:
    first = service.admin.post(PATH, json={}).json()["certificate"]
    teach(service, "br", b"skeudenn all")
    again = service.admin.post(PATH, json={}).json()
    assert [each["number"] for each in again["versions"]] == [1, 3] and again["certificate"] != first
    assert [each["bytes"] for each in again["datasets"]] == [12]
    assert again["certificate"]["public_key"] == first["public_key"]
