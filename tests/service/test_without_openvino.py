"""A machine without OpenVINO: the whole loop on torch, in real processes that cannot import it."""

import json
import os
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE
from tests.service.harness import picture, wait_until
from tests.service.processes import find_free_port
from tests.service.test_up import run, start_up
from tests.tiny import write_tiny_base
from tests.worker.harness import pairs

KEY = "an-admin-key-of-this-test-0123456789"


@pytest.fixture(autouse=True)
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every process that is started from here, `openvino` is not installed, by all that Python can tell."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\n\nsys.modules['openvino'] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hidden), os.environ["PYTHONPATH"]]))


@pytest.mark.parametrize("command", ["up", "serve", "worker", "doctor"])
def test_a_setting_that_asks_for_it_ends_every_process_with_one_sentence(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command, BACKEND="openvino")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "PICTOGLOT_BACKEND: OpenVINO needs the extra openvino.\n"
    assert not (tmp_path / "registry.db").exists()


@pytest.mark.slow
def test_pictures_are_found_and_a_language_is_learned_on_torch_and_the_doctor_says_what_is_missing(
    tmp_path: Path,
) -> None:
    home, settings = tmp_path / "home", {"BASE": write_tiny_base(tmp_path), "ADMIN_KEY": KEY, "PORT": find_free_port()}
    home.mkdir()
    with start_up(home, **settings, MIN_RECALL=0) as running:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=running.said("Address"), headers=headers, timeout=PATIENCE) as admin:
            put = admin.put("/v1/pictures/p1", files={"picture": ("x", picture(1))})
            assert put.status_code == 201, put.text
            body = "".join(json.dumps(row) + "\n" for row in pairs("cy")).encode()
            form = {"language": "cy", "settings": '{"epochs": 4}', "force": "true"}
            learn = admin.post("/v1/languages", data=form, files={"dataset": ("cy.jsonl", body)})
            assert learn.status_code == 202, learn.text
            place = f"/v1/expansions/{learn.json()['expansion']['id']}"
            wait_until(lambda: admin.get(place).json()["state"] not in ("queued", "running"), 180)
            assert admin.get(place).json()["state"] == "succeeded", admin.get(place).text
            wait_until(lambda: "cy" in admin.get("/readyz").text)
            found = admin.post("/v1/search/pictures", json={"text": "afal der", "language": "cy"}).json()
            assert [hit["id"] for hit in found["items"]] == ["p1"], found
            assert admin.get("/readyz").json()["encoding"] == "torch in float32"
    findings = json.loads(run(home, "doctor", "--json", **settings).stdout)["findings"]
    assert [finding["what"] for finding in findings if finding["outcome"] == "bad"] == []
    about = [finding["detail"] for finding in findings if "openvino" in json.dumps(finding)]
    assert about == ["made with torch in float32; the extra `openvino` is several times faster on a CPU"]
