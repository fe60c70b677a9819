"""What `import --delete` must not delete: what only cannot be seen now."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.importing.test_import import list_present
from tests.client.test_commands import run, run_json
from tests.service.harness import Service, picture, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An empty gallery; each test uses names of its own."""
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


def test_files_of_a_manifest_that_are_away_and_torn_rows_delete_nothing(service: Service, tmp_path: Path) -> None:
    disk, table = tmp_path / "disk", tmp_path / "list.csv"
    disk.mkdir()
    for number in range(3):
        (disk / f"{number}.png").write_bytes(picture(number))
    table.write_text("file,id\n0.png,m-0\n1.png,m-1\n2.png,m-2\n")
    names = ["m-0", "m-1", "m-2"]
    given = ("import", str(table), "--root", str(disk), "--delete")
    run_json(service, *given)
    (disk / "1.png").rename(disk / "x")
    done = run(service, *given)
    assert done.exit_code == 1 and list_present(service, names) == names
    assert "Not everything could be seen: line 3. What was there before is not deleted." in done.stderr
    shutil.rmtree(disk)
    disk.mkdir()
    away = run(service, *given)
    assert (away.exit_code, list_present(service, names)) == (2, names)
    assert "line 2: 0.png cannot be read" in away.stderr and "nothing is deleted" in away.stderr
    (disk / "0.png").write_bytes(picture(0))
    table.write_text("file,id\n0.png,m-0\n")
    assert run_json(service, *given)["deleted"] == 2 and list_present(service, names) == ["m-0"]


def test_what_is_below_a_disk_that_is_away_is_not_deleted(service: Service, tmp_path: Path) -> None:
    """A link to it that leads nowhere, and a folder that it was mounted on; an empty folder in which nothing was."""
    folder, disk = tmp_path / "photos", tmp_path / "disk"
    for place in (folder / "mounted", folder / "never", disk):
        place.mkdir(parents=True)
    for file in (folder / "here.png", folder / "gone.png", folder / "mounted" / "a.png", disk / "b.png"):
        file.write_bytes(picture(7))
    (folder / "linked").symlink_to(disk)
    names = ["gone", "here", "linked/b", "mounted/a"]
    run_json(service, "import", str(folder), "--delete")
    assert list_present(service, names) == names
    disk.rename(tmp_path / "away")
    for gone in ("mounted/a.png", "gone.png"):
        (folder / gone).unlink()
    done = run(service, "import", str(folder), "--delete")
    assert done.exit_code == 1 and list_present(service, names) == names[1:]
    assert "linked: The link leads nowhere." in done.stderr
    assert "linked, mounted. What was there before is not deleted." in done.stderr
    (folder / "linked").unlink()
    (folder / "mounted").rmdir()
    assert run_json(service, "import", str(folder), "--delete")["deleted"] == 2
