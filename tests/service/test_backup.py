"""A copy made by docs/deploy/pictoglot-backup while pictures come and go, and restored elsewhere, is whole."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from index.indexer import Indexer
from index.janitor import sweep
from tests.house.source import ROOT
from tests.patience import PATIENCE
from tests.service.harness import Service, picture, running, wait_until
from tests.service.test_languages import teach

pytestmark = [
    pytest.mark.row("F10"),
    pytest.mark.skipif(
        not (shutil.which("rsync") and shutil.which("sqlite3")), reason="rsync and sqlite3 make the copy"
    ),
]
# In place of sqlite3: it waits before the registry is copied, and after that
GATE = """#!/bin/sh
for moment in before after; do
    : > "{gate}/$moment"
    while [ ! -e "{gate}/$moment.passed" ]; do sleep 0.02; done
    [ $moment = after ] || {sqlite3} "$@" || exit 1
done
"""


class Backup:
    """The script of the document, running."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder, self._gate = folder / "copies", folder / "gate"
        for made in (self.folder, self._gate):
            made.mkdir()
        gate = self._gate / "sqlite3"
        gate.write_text(GATE.format(gate=self._gate, sqlite3=shutil.which("sqlite3")))
        gate.chmod(0o755)
        script = (ROOT / "docs/deploy/pictoglot-backup").read_text(encoding="utf-8")
        named = {"home=/var/lib/pictoglot": f"home={home}", "to=/var/backups/pictoglot": f"to={self.folder}"}
        for name, place in named.items():
            assert name in script
            script = script.replace(name, place)
        environment = {**os.environ, "PATH": f"{self._gate}:{os.environ['PATH']}"}
        self._process = subprocess.Popen(["sh", "-c", script], env=environment, stderr=subprocess.PIPE, text=True)

    @contextmanager
    def at(self, moment: str) -> Iterator[None]:
        """Let the script stand still `before` or `after` it copies the registry."""
        wait_until(lambda: (self._gate / moment).exists() or self._process.poll() is not None)
        yield
        (self._gate / f"{moment}.passed").touch()

    def restore(self, home: Path) -> None:
        """Do as the document says, when the script has ended."""
        _, said = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, said
        latest = (self.folder / "latest").resolve()
        shutil.copytree(latest / "files", home)
        shutil.copy(latest / "registry.db", home)


def test_every_record_of_a_copy_has_its_content_though_pictures_were_replaced_meanwhile(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home, keep_originals=True) as service:
        for number in range(4):
            service.put(f"p{number}", picture(number), en=[f"motif {number}"])
        backup = Backup(home, tmp_path)
        with backup.at("before"):  # these are not in the first copy of the files
            service.put("p1", picture(11))
            service.put("new", picture(12), en=["a boat"])
            service.put("gone", picture(13))
            assert teach(service).status_code == 202
        with backup.at("after"):
            expected = read_contents(service)
            service.put("p0", picture(20))
            service.put("p1", picture(21))
            service.put("new", picture(22))
            assert service.admin.delete("/v1/pictures/gone").status_code == 204
            assert service.admin.delete("/v1/pictures/p2").status_code == 204
            Indexer(service.context.live.sets, seal_at=1).run()
            sweep(service.context.live.sets)
    backup.restore(tmp_path / "restored")
    with running(tmp_path / "restored") as restored:
        assert read_contents(restored) == expected and len(expected) == 6
        answer = restored.admin.post("/v1/admin/index/verify").json()
        assert (answer["ok"], answer["problems"]) == (True, [])
        assert {item["id"] for item in restored.search("a boat", limit=100).json()["items"]} == expected.keys()


def read_contents(service: Service) -> dict[str, list[bytes]]:
    """Read the files of every picture."""
    ids = [item["id"] for item in service.admin.get("/v1/pictures", params={"limit": 100}).json()["items"]]
    return {
        id: [fetch(service, f"/v1/pictures/{id}/{kind}") for kind in ("content", "thumbnail", "original")] for id in ids
    }


def fetch(service: Service, path: str) -> bytes:
    answer = service.admin.get(path)
    assert answer.status_code == 200, path
    return answer.content


def test_verify_tells_what_the_registry_names_and_is_not_there(tmp_path: Path) -> None:
    with running(tmp_path, keep_originals=True) as service:
        for number in range(3):
            service.put(f"p{number}", picture(number))
        expansion = teach(service).json()["expansion"]["id"]
        assert service.admin.post("/v1/admin/index/verify").json()["problems"] == []
        gallery = service.context.gallery
        content = gallery.get("p1").content_sha256
        gallery.files.locate(content, thumbnail=True).unlink()
        gallery.files.open_original(content).close()
        service.home.joinpath(f"pictures/{content[:2]}/{content}.original").unlink()
        gallery.files.locate(gallery.get("p2").content_sha256).unlink()
        shutil.rmtree(service.home / "expansions" / expansion)
        answer = service.admin.post("/v1/admin/index/verify").json()
        assert not answer["ok"] and sorted(answer["problems"]) == [
            f"The dataset of expansion {expansion} is missing.",
            "The original of picture p1 is missing.",
            "The stored picture of picture p2 is missing.",
            "The thumbnail of picture p1 is missing.",
        ]


def test_files_that_are_only_in_the_store_are_not_missing(tmp_path: Path, store: str) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    with running(tmp_path / "here", store=store, database_url=url, keep_originals=True) as service:
        service.put("a", picture(1))
        assert teach(service).status_code == 202
    with running(tmp_path / "there", store=store, database_url=url) as other:
        assert other.admin.post("/v1/admin/index/verify").json()["problems"] == []
        for name in other.context.root.list_stored("pictures"):
            other.context.root.forget(name)
        assert len(other.admin.post("/v1/admin/index/verify").json()["problems"]) == 3
