"""`pictures` against a real server: what is sent, what is there already, what is refused."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import api
from client.importing.upload import CHUNK
from tests.client.test_admin import answer_questions
from tests.client.test_commands import run, run_json
from tests.service.harness import Service, picture, share_service, wait_until

service = share_service()  # an empty gallery; each test deletes what it adds, or uses names of its own


def test_pictures_are_added_found_shown_and_changed_as_records(service: Service, tmp_path: Path) -> None:
    (tmp_path / "iron.png").write_bytes(picture(60))
    (tmp_path / "wood.png").write_bytes(picture(61))
    said = ("--collection", "archive", "--tag", "bridge", "--tag", "a, b")
    added = run_json(service, "import", str(tmp_path), *said)["added"]
    shown = [run_json(service, "pictures", "show", item["id"]) for item in added]
    assert [(item["collection"], item["tags"]) for item in shown] == [("archive", ["bridge", "a, b"])] * 2
    assert run_json(service, "import", str(tmp_path), *said)["there"] == 2
    assert len(run_json(service, "import", str(tmp_path), "--tag", "bridge")["added"]) == 2
    changed = run_json(
        service, "pictures", "edit", "iron", "--metadata", '{"year": 1950, "width": "12 cm"}', "--captions",
        '{"en": ["an iron bridge"], "cy": ["pont haearn"]}',
        "--etag", run_json(service, "pictures", "show", "iron")["etag"],
    )  # fmt: skip
    folder = {"file_name": "iron.png", "folder": tmp_path.name}
    assert (changed["name"], changed["metadata"]) == ("iron.png", {**folder, "year": 1950, "width": "12 cm"})
    assert changed["captions"] == {"en": ["an iron bridge"]}
    assert "record_changed" in run(service, "pictures", "edit", "iron", "--tag", "x", "--etag", "old").stderr
    assert "cy, en" in run(service, "pictures", "list", "--collection", "archive").stdout  # one waits for its language
    text = run(service, "pictures", "show", "iron").stdout
    assert all(part in text for part in ("archive", "1950", "an iron bridge", "12 cm"))
    assert [line.split()[1:] for line in text.splitlines() if line.startswith("width")] == [["48"], ["12", "cm"]], text
    old = '{"must": [{"key": "year", "range": {"lt": 1960}}]}'
    where = ("--collection", "archive", "--filter")
    for command in (("search", "anything", "-l", "en"), ("search", "--picture", str(tmp_path / "wood.png"))):
        assert [hit["id"] for hit in run_json(service, *command, *where, old)["items"]] == ["iron"]
    assert [item["id"] for item in run_json(service, "pictures", "list", *where, old)["items"]] == ["iron"]
    listed = ("pictures", "list", "--collection", "archive")
    both = run_json(service, *listed)["items"]  # of one batch, whichever came first
    assert len(both) == 2 and run_json(service, *listed, "--newest")["items"] == both[::-1]
    for wrong in (("list", "--filter", "x"), ("edit", "iron"), ("edit", "iron", "--metadata", "[]")):
        assert run(service, "pictures", *wrong).exit_code == 2
    elsewhere = run(service, "pictures", "edit", "iron", "--collection", "Mis\nfotos")
    assert elsewhere.exit_code == 2 and "collection" in elsewhere.stderr
    for id in ("iron", "wood"):
        run(service, "pictures", "delete", id)


@pytest.mark.parametrize("says", [True, False])
def test_on_a_terminal_a_picture_is_shown_and_deleted_only_after_a_question(
    service: Service, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    service.put("asked", en=["a bridge"]).raise_for_status()
    asked = list[str]()

    def confirm(question: str) -> bool:
        asked.append(question)
        return says

    answer_questions(monkeypatch, confirm)
    output = run(service, "pictures", "delete", "asked").stdout
    assert asked == ["Delete it?"] and "a bridge" in output
    assert ("asked is deleted." in output) == says
    assert service.admin.get("/v1/pictures/asked").status_code == (404 if says else 200)
    service.put("asked").raise_for_status()
    for option in ("--yes", "--json"):
        assert run(service, "pictures", "delete", "asked", option).exit_code == 0
        service.put("asked").raise_for_status()
    assert len(asked) == 1


def test_a_picture_that_is_another_one_by_now_than_the_one_shown_is_not_deleted(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.put("moved", en=["a bridge"]).raise_for_status()
    answer_questions(monkeypatch, lambda _: service.put("moved", picture(77), en=["a tower"]).is_success)
    result = run(service, "pictures", "delete", "moved")
    assert result.exit_code == 2 and "record_changed" in result.stderr
    assert service.admin.get("/v1/pictures/moved").json()["captions"] == {"en": ["a tower"]}


def test_captions_of_every_script_travel_as_they_are(service: Service, tmp_path: Path) -> None:
    """As escapes these would be twice as long, and more than a form's field may be."""
    (tmp_path / "a.png").write_bytes(picture(12))
    texts = [f"{number} " + "लाल सेब और हरा पेड़ " * 40 for number in range(20)]
    assert 2 * len("".join(texts).encode()) > 64 << 10 > len("".join(texts).encode())
    (tmp_path / "list.jsonl").write_text(json.dumps({"file": "a.png", "captions": {"en": texts}}))
    run_json(service, "import", str(tmp_path / "list.jsonl"))
    assert len(run_json(service, "pictures", "show", "a")["captions"]["en"]) == 20
    run(service, "pictures", "delete", "a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, with names that no other test uses."""
    for number in range(3):
        (tmp_path / f"{tmp_path.name}-{number}.png").write_bytes(picture(40 + number))
    return tmp_path


@pytest.fixture
def uploads(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures were in each request that this process sent with some."""
    sent, put, post = list[int](), httpx.Client.put, httpx.Client.post

    def alone(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        sent.append(1)
        return put(self, url, **more)

    def together(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        sent.append(len(more["files"]))
        return post(self, url, **more)

    monkeypatch.setattr(httpx.Client, "put", alone)
    monkeypatch.setattr(httpx.Client, "post", together)
    return sent


def test_other_captions_are_sent_without_the_picture_that_is_there(
    service: Service, folder: Path, uploads: list[int]
) -> None:
    file, rows = next(folder.iterdir()), folder / "list.jsonl"
    for texts in (["a ball"], ["a ball"], ["a red ball"]):
        rows.write_text(json.dumps({"file": file.name, "captions": {"en": texts}}))
        run_json(service, "import", str(rows))
        assert service.admin.get(f"/v1/pictures/{file.stem}").json()["captions"] == {"en": texts}
        assert uploads == [1]


@pytest.mark.parametrize("fault", ["busy", "gone"])
def test_an_upload_waits_for_a_service_that_is_busy_or_restarts(
    service: Service, folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, post, slept = [fault, fault], httpx.Client.post, list[float]()

    def refused(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        if not faults:
            return post(self, url, **more)
        if faults.pop() == "gone":
            raise httpx.ReadError("the connection was closed")
        return httpx.Response(503, headers={"Retry-After": "7"})

    monkeypatch.setattr(httpx.Client, "post", refused)
    monkeypatch.setattr(api, "pause", lambda seconds, stopping: slept.append(seconds))
    added = run_json(service, "import", str(folder))["added"]
    assert [item["id"] for item in added] == sorted(file.stem for file in folder.iterdir())
    slept = [seconds for seconds in slept if seconds]
    assert sorted(slept) == [7.0, 7.0] if fault == "busy" else max(slept) <= 1.0 and len(slept) == 2


def test_an_import_waits_a_minute_for_a_registry_that_is_away_and_no_longer(
    folder: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the service asks for pauses of a second: eight of these were over too soon."""
    clock, get, back_at = [0.0], httpx.Client.get, [65.0]

    def answer(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        if clock[0] < back_at[0]:
            document = {"code": "registry_unavailable", "title": "The registry does not answer", "request_id": "r"}
            return httpx.Response(503, headers={"Retry-After": "1"}, json=document, request=httpx.Request("GET", url))
        return get(self, url, **more)

    def pause(seconds: float, stopping: object) -> None:
        clock[0] += seconds

    monkeypatch.setattr(httpx.Client, "get", answer)
    monkeypatch.setattr(api, "pause", pause)
    monkeypatch.setattr(api, "read_clock", lambda: clock[0])
    assert run(service, "import", str(folder), "--dry-run").exit_code == 0 and clock[0] >= 65
    back_at[0] = 1e9
    result = run(service, "import", str(folder), "--dry-run")
    assert result.exit_code == 1 and "registry_unavailable" in result.stderr


def test_a_service_that_is_not_there_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "pause", lambda seconds, stopping=None: pytest.fail("it waits"))
    result = run(None, "import", str(folder))
    assert result.exit_code == 1 and "No service answers at" in result.stderr


def test_an_interrupted_import_says_how_to_go_on(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones go together, and the last one, alone, is interrupted."""
    for number in range(3, CHUNK + 1):
        (folder / f"{folder.name}-{number:02d}.png").write_bytes(picture(400 + number))
    post, done = httpx.Client.post, list[httpx.Response]()

    def together(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        done.append(post(self, url, **more))
        return done[-1]

    def interrupted(self: httpx.Client, url: str, **more: Any) -> httpx.Response:
        wait_until(lambda: done)
        raise KeyboardInterrupt

    monkeypatch.setattr(httpx.Client, "post", together)
    monkeypatch.setattr(httpx.Client, "put", interrupted)
    result = run(service, "import", str(folder))
    assert result.exit_code != 0
    assert f"{CHUNK} pictures were added until then; the same command goes on with the rest." in result.stderr
    monkeypatch.undo()
    assert run_json(service, "import", str(folder))["there"] == CHUNK
