"""A loss of power forgets what was not fsynced: of each file its content, and in the folder above it its name."""

import os
import shutil
from pathlib import Path

import pytest

from index.indexer import Indexer
from index.picture_files import PictureFiles
from store import files
from store.data_root import DataRoot
from store.registry import open_registry
from tests.service.harness import Service, picture, running
from tests.service.test_languages import teach

pytestmark = pytest.mark.row("F15")


class Disk:
    """What an fsync has made durable: contents of files by their inode, and the names in folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents = dict[int, tuple[int, int]]()
        self._names = dict[int, dict[str, int]]()
        fsync = os.fsync

        def record(descriptor: int) -> None:
            fsync(descriptor)
            path, facts = Path(os.readlink(f"/proc/self/fd/{descriptor}")), os.fstat(descriptor)
            if path.is_dir():
                self._names[facts.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
            else:
                self._contents[facts.st_ino] = (facts.st_size, facts.st_mtime_ns)

        monkeypatch.setattr(os, "fsync", record)

    def forgets(self, home: Path) -> list[str]:
        """List the files and folders below `home`, and itself, that would be gone; SQLite sees to its own files."""
        return [
            str(path.relative_to(home.parent))
            for path in sorted([home, *home.rglob("*")])
            if not path.name.startswith("registry.db") and not self._has(path)
        ]

    def _has(self, path: Path) -> bool:
        facts, above = path.stat(), self._names.get(path.parent.stat().st_ino, {})
        whole = path.is_dir() or self._contents.get(facts.st_ino) == (facts.st_size, facts.st_mtime_ns)
        return whole and above.get(path.name) == facts.st_ino


def fill(service: Service) -> None:
    """Write every kind of file that the API writes, and segments."""
    for number in range(3):
        assert service.put(f"p{number}", picture(number), en=[f"motif {number}"]).status_code == 201
    assert service.admin.get("/v1/pictures?limit=1").status_code == 200  # with a signed cursor
    assert teach(service).status_code == 202
    Indexer(service.context.live.sets, seal_at=1).run()
    service.context.live.refresh()


def test_all_that_a_service_wrote_into_a_new_place_survives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, home = Disk(monkeypatch), tmp_path / "new" / "place" / "home"
    with running(home, database_url=f"sqlite:///{home}/registry.db", keep_originals=True, admin_key="") as service:
        service.admin.headers["Authorization"] = f"Bearer {service.context.settings.key_file.read_text().strip()}"
        fill(service)
        kinds = {path.relative_to(home).parts[0] for path in home.rglob("*")} - {"uploads", "verified"}
        assert {"pictures", "segments", "expansions", "cursor.key"} < kinds
        assert disk.forgets(tmp_path / "new") == []


def test_what_comes_from_a_store_survives_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    with running(tmp_path / "there", store=store) as service:
        fill(service)
        names = [path.relative_to(service.home).as_posix() for path in service.home.glob("segments/*")]
        gallery = service.context.gallery
        contents = [*gallery.find_contents(gallery.list_ids()).values()]
    disk, here = Disk(monkeypatch), DataRoot(tmp_path / "here", store)
    pictures = PictureFiles(here)
    for name in names:
        here.open(name)
    for content in contents:
        assert pictures.read(content) and pictures.read(content, thumbnail=True)
    assert len(names) > 0 and disk.forgets(tmp_path / "here") == []


def test_the_name_of_a_folder_that_somebody_else_made_is_made_durable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process that was killed between making it and telling the disk."""
    disk, folder = Disk(monkeypatch), tmp_path / "home" / "pictures" / "ab"
    folder.mkdir(parents=True)
    files.write_bytes(folder / "x.jpg", b"x")
    assert disk.forgets(tmp_path / "home") == []


def test_a_staged_folder_and_a_registry_in_a_new_place_survive_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone: what is written later would make the names above it durable."""
    disk = Disk(monkeypatch)
    with files.stage(tmp_path / "home" / "segments" / "one") as staged:
        (staged / "rows").write_bytes(b"x")
    open_registry(f"sqlite:///{tmp_path}/far/away/registry.db").close()
    assert disk.forgets(tmp_path / "home") == disk.forgets(tmp_path / "far") == []


def test_a_folder_that_was_removed_and_made_again_is_made_durable_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, folder = Disk(monkeypatch), tmp_path / "home" / "pictures"
    files.write_bytes(folder / "x.jpg", b"x")
    shutil.rmtree(folder)
    (tmp_path / "home" / "other").mkdir()  # has the inode of what was removed, where these are used again
    files.write_bytes(folder / "y.jpg", b"y")
    assert disk.forgets(folder) == []
