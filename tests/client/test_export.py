"""What `export` writes of a service, and what it leaves alone; that all is equal then, `tests/worker` tests."""

import hashlib
import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from client import Client
from tests.bitrot import flip
from tests.client.test_commands import run, run_json
from tests.service.harness import Service, assert_problem, picture, running, share_service
from tests.store import steps

service = share_service(keep_originals=True)


def teach(service: Service, tag: str, dataset: bytes, report: dict[str, Any] | None = None, **more: Any) -> str:
    """Return what is left of a dataset and its version when a worker is done with it; its expansion."""
    registry = service.context.registry
    name = f"expansions/{tag}-{len(registry.versions.list())}"
    (service.home / name).mkdir(parents=True)
    (service.home / name / "dataset").write_bytes(dataset)
    given: dict[str, Any] = {
        "dataset_path": f"{name}/dataset",
        "dataset_sha256": "0" * 64,
        "dataset_bytes": len(dataset),
    }
    settings: dict[str, Any] = {"seed": len(dataset), "force": True, **more}
    expansion, _ = registry.expansions.submit(kind="learn", language=tag, settings=settings, actor="test", **given)
    lease = registry.expansions.take_lease(expansion.id, "test")
    assert lease is not None
    folder = service.home / f"versions/{expansion.id}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"files": {}}')
    earlier = () if more.get("replace") else steps.list_taught_from(registry, tag)
    made = {"datasets": (*earlier, expansion.id), **({} if report is None else {"report": report})}
    version = steps.write(registry, lease, tag, registry.releases.get_serving().shared, **made)
    release = steps.promote(registry, lease, version)
    registry.expansions.succeed(lease, version.number, release.number, report or {"pairs": 1})
    service.context.live.refresh()
    return expansion.id


def test_every_dataset_is_exported_in_the_order_in_which_they_were_taught(tmp_path: Path) -> None:
    """Spanish is taught again after Quechua, by a dictionary that stands on it: by versions, it would come first."""
    out, taught = tmp_path / "it's a backup", [("es", b"uno"), ("qu", b"huk iskay"), ("es", b"dos")]
    with running(tmp_path / "home") as service:
        more: list[dict[str, Any]] = [{}, {"pivot": "es"}, {}]
        service.admin.put("/v1/languages/qu/terms", json={"owner": "Llaqta"}).raise_for_status()
        expansions = [teach(service, *each, **settings) for each, settings in zip(taught, more, strict=True)]
        result = run(service, "export", str(out))
        assert result.exit_code == 0, result.output
        listed = service.admin.get("/v1/versions/3/datasets").json()["items"]
        assert [(each["expansion"], each["settings"]) for each in listed] == [
            (expansions[0], {"seed": 3}),
            (expansions[2], {"seed": 3}),
        ]
        assert service.admin.get("/v1/versions/0/datasets").json() == {"items": []}
        for expansion in (expansions[1], "..%2f..%2fadmin.key"):  # of another language, and of nobody
            assert_problem(service.admin.get(f"/v1/versions/3/datasets/{expansion}"), 404, "version_not_found")
        rows = [json.loads(line) for line in (out / "languages.jsonl").read_text().splitlines()]
        assert [(row["language"], (out / row["dataset"]).read_bytes()) for row in rows] == taught
        commands = [shlex.split(line) for line in result.stderr.splitlines() if line.startswith("  pictoglot ")]
        assert commands[0] == ["pictoglot", "import", str(out)]
        assert commands[1][:4] == ["pictoglot", "learn", "es", str(out / rows[0]["dataset"])]
        assert commands[2][:5] == ["pictoglot", "learn", "qu", "--dictionary", str(out / rows[1]["dataset"])]
        assert commands[2][5:7] == ["--pivot", "es"] and [row["pivot"] for row in rows] == [None, "es", None]
        terms = out / "datasets/002-qu-terms.json"
        assert json.loads(terms.read_text())["owner"] == "Llaqta"
        options = ["--settings", '{"seed": 9}', "--without-missing", "--force", "--watch"]
        assert commands[2][7:] == [*options, "--terms", str(terms)]

        (service.home / "expansions" / "es-1" / "dataset").unlink()
        assert [each["kept"] for each in service.admin.get("/v1/versions/3/datasets").json()["items"]] == [False, True]
        done = run_json(service, "export", str(out))
        assert [row["language"] for row in done["languages"]] == ["qu", "es"] and done["datasets_gone"] == ["es"]


def test_what_a_record_lost_on_purpose_does_not_come_back_from_the_file(service: Service, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a house with its number"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "house.jpg").write_bytes(picture(1, format="JPEG", exif=exif.tobytes()))
    run_json(service, "import", str(tmp_path / "in"), "--collection", "houses")
    assert read_record(service, "house")["metadata"]["description"] == "a house with its number"
    merge = {"Content-Type": "application/merge-patch+json"}
    service.admin.patch("/v1/pictures/house", json={"metadata": {"description": None}}, headers=merge)
    before = read_record(service, "house")
    teach(service, "cy", b"un")
    reader = service.key("search")
    result = run(service, "export", str(tmp_path / "out"), "--collection", "houses", key=reader)  # sees no dataset
    assert result.exit_code == 0, result.output
    with running(tmp_path / "home") as other:
        run_json(other, "import", str(tmp_path / "out"), "--state", str(tmp_path / "state"))
        assert read_record(other, "house") == before


def read_record(service: Service, id: str) -> dict[str, Any]:
    item = service.admin.get(f"/v1/pictures/{id}").json()
    return {name: item[name] for name in ("collection", "tags", "metadata", "own")}


def test_an_export_says_how_many_reduced_copies_it_holds(service: Service, tmp_path: Path) -> None:
    service.put("kept").raise_for_status()
    kept = run_json(service, "export", str(tmp_path / "kept"), "--pictures-only")
    assert kept["pictures"] > 0 and kept["reduced"] == 0
    with running(tmp_path / "home") as other:
        for number in range(2):
            other.put(f"p{number}", picture(number)).raise_for_status()
        result = run(other, "export", str(tmp_path / "out"), "--pictures-only")
        assert "2 of them are reduced copies" in result.stderr and "PICTOGLOT_KEEP_ORIGINALS" in result.stderr
        assert (
            run_json(other, "export", str(tmp_path / "out"), "--pictures-only")["reduced"] == 2
        )  # when it goes on, too


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_damaged_pictures_are_told_and_an_earlier_export_keeps_them_and_nothing_that_is_gone(tmp_path: Path) -> None:
    with running(tmp_path / "home", keep_originals=True) as service:
        for number, id in enumerate("abcd"):
            service.put(id, picture(number)).raise_for_status()
        for tag in ("cy", "qu"):
            teach(service, tag, tag.encode())
        run_json(service, "export", str(tmp_path / "old"))
        earlier = list_files(tmp_path / "old")
        with (tmp_path / "old" / "manifest.jsonl").open("a") as manifest:  # as somebody may have written it
            manifest.writelines(json.dumps({"id": file, "file": file}) + "\n" for file in ("..", ".", "../../home"))
        for id, kinds in (("a", ("original",)), ("b", ("original", "jpg"))):
            content = hashlib.sha256(earlier[f"pictures/{id}.png"]).hexdigest()
            for kind in kinds:
                flip(service.home / "pictures" / content[:2] / f"{content}.{kind}", 100)
        service.admin.delete("/v1/pictures/d").raise_for_status()
        gone = run(service, "withdraw", "cy", "--yes", "--out", str(tmp_path / "certificate"))
        assert gone.exit_code == 0, gone.output
        for folder in ("old", "new"):
            result = run(service, "export", str(tmp_path / folder))
            assert result.exit_code == 1 and "Of 2 pictures a stored file is damaged: a, b." in result.stderr
    left = list_files(tmp_path / "old")
    assert left["datasets/001-qu"] == b"qu" and not {file for file in left if "cy" in file or "versions/1" in file}
    assert {name for name in left if "pictures" in name} == {f"pictures/{id}.png" for id in "abc"}
    assert all(left[f"pictures/{id}.png"] == earlier[f"pictures/{id}.png"] for id in "abc")
    new = list_files(tmp_path / "new")
    assert {name for name in new if "pictures" in name} == {"pictures/a.jpg", "pictures/c.png"}
    assert [json.loads(row)["id"] for row in new["manifest.jsonl"].splitlines()] == ["a", "c"]


def test_a_folder_that_no_export_wrote_stays_as_it_is(service: Service, tmp_path: Path) -> None:
    """It looks like one: somebody keeps a manifest beside the pictures."""
    own = {"manifest.jsonl": b'{"file": "pictures/a.jpg"}\n', "pictures/a.jpg": b"a picture"}
    (tmp_path / "pictures").mkdir()
    for name, content in own.items():
        (tmp_path / name).write_bytes(content)
    result = run(service, "export", str(tmp_path), "--pictures-only")
    assert result.exit_code == 2 and "no export wrote" in result.stderr
    assert {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*.*")} == own


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(service: Service, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = run(service, "export", str(tmp_path / "file" / "below"))
    assert refused.exit_code == 1 and "cannot be written: Not a directory." in refused.stderr


def test_ids_that_differ_only_in_upper_case_are_files_of_two_names(service: Service, tmp_path: Path) -> None:
    for number, id in enumerate(("bridge", "Bridge", "a/bridge")):
        service.put(id, picture(10 + number))
    run_json(service, "export", str(tmp_path / "out"), "--pictures-only")
    names = {file.name.lower() for file in (tmp_path / "out" / "pictures").iterdir()}
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert len(names) == len(rows) and {"bridge.png", "a%2fbridge.png"} <= names
    with running(tmp_path / "home") as other:
        run_json(other, "import", str(tmp_path / "out"), "--state", str(tmp_path / "state"))
        for id in ("bridge", "Bridge", "a%2Fbridge"):
            ours, theirs = (each.admin.get(f"/v1/pictures/{id}").json()["url"] for each in (service, other))
            assert ours == theirs


@pytest.mark.parametrize(
    ("language", "files"), [("../../es", {}), ("es", {"../../x": ""}), ("es", {"..": ""}), ("es", {"a\\b": ""})]
)
def test_no_name_that_a_service_gives_leads_out_of_the_folder(
    language: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = {"expansion": "exp_1", "created_at": "2026-01-01T00:00:00Z", "settings": {}, "kept": True}
    answers: dict[str, Any] = {
        **{path: {"items": [], "next_cursor": None} for path in ("/v1/collections", "/v1/pictures")},
        "/v1/languages": {"items": [{"language": language, "version": 1, "taught": True}]},
        "/v1/versions/1": {"digests": files},
        "/v1/versions/1/datasets": {"items": [dataset]},
    }
    asked = httpx.MockTransport(lambda request: httpx.Response(200, json=answers.get(request.url.path, {})))
    with Client("http://service", transport=asked) as client:
        monkeypatch.setattr("client.commands.export.open_service", lambda **_: nullcontext(client))
        refused = run(None, "export", str(tmp_path / "a" / "b"))
    assert refused.exit_code == 1 and "lead out of the folder" in refused.stderr
    assert not [
        file for file in tmp_path.rglob("*") if file.is_file() and not file.is_relative_to(tmp_path / "a" / "b")
    ]
