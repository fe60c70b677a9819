"""What `export` writes, `import` and `learn` read back: a service with two taught languages, and an empty one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_commands import run, run_json
from tests.groups import GROUPS, write_base
from tests.service.harness import Service, assert_problem, picture
from tests.worker.test_groups import PICTURES, answers, serving, teach, work


def records(service: Service) -> list[dict[str, Any]]:
    """All that is kept of pictures, but what each data root gives by itself."""
    items = service.admin.get("/v1/pictures", params={"limit": 100}).json()["items"]
    own = ("created_at", "shown_at", "original", "etag", "url")
    return sorted(({k: v for k, v in item.items() if k not in own} for item in items), key=lambda item: str(item["id"]))


@pytest.mark.slow
def test_an_exported_service_is_equal_when_it_is_imported_and_taught_again(tmp_path: Path) -> None:
    base, out = write_base(tmp_path, GROUPS["clip"]), tmp_path / "out"
    with serving(tmp_path / "first", base, keep_originals=True) as service:
        for number in range(PICTURES):
            said = {
                "captions": json.dumps({"en": [f"thing {number}"], "sw": [f"kitu {number}"]}),
                "metadata": json.dumps({"year": 1900 + number, "seen": True, "names": ["a", "b"]}),
                "tags": json.dumps([f"t{number % 3}", "a, b"]),
                "collection": "museum" if number % 2 else "default",
            }
            files = {"picture": ("x", picture(number, format="JPEG"))}
            assert service.admin.put(f"/v1/pictures/p{number}", files=files, data=said).status_code == 201
        for language in ("cy", "br"):
            teach(service, language)
        before, found = records(service), answers(service, "en", "cy", "br")
        assert before[0]["captions"]["cy"] and "cy" not in before[0]["own"]
        done = run_json(service, "export", str(out))
        assert [each["language"] for each in done["languages"]] == ["cy", "br"]
        assert run_json(service, "export", str(out))["pictures"] == PICTURES  # again, into the same folder
        for number, each in enumerate(service.context.registry.versions.list()[:-1][::-1], 1):
            assert each.folder is not None
            for file in (service.home / each.folder).iterdir():
                assert (out / "versions" / str(number) / file.name).read_bytes() == file.read_bytes()
        assert_problem(service.admin.get("/v1/versions/1/files/..%2f..%2fadmin.key"), 404, "version_not_found")
        assert_problem(service.admin.get("/v1/versions/0/datasets/x"), 404, "version_not_found")
        reader = service.key("search", collections=["museum"])
        some = run(service, "export", str(tmp_path / "some"), "--pictures-only", "--json", key=reader)
        assert json.loads(some.stdout)["pictures"] == PICTURES // 2
        assert run(service, "export", str(tmp_path / "all"), key=reader).exit_code == 2
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").touch()
        assert run(service, "export", str(tmp_path / "other")).exit_code == 2
    with serving(tmp_path / "second", base) as service:
        assert len(run_json(service, "import", str(out))["added"]) == PICTURES
        for line in (out / "languages.jsonl").read_text().splitlines():
            row = json.loads(line)
            dataset = str(out / row["dataset"])
            taught = run_json(
                service, "learn", row["language"], dataset, "--settings", row["settings"], "--force", "--yes"
            )
            work(service, {"expansion": taught})
        assert records(service) == before
        assert answers(service, "en", "cy", "br") == found
        assert run_json(service, "import", str(out))["there"] == PICTURES
