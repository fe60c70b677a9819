"""Backups by the command line: made, verified, restored; what is copied again, and what is refused."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from client.commands import app
from index import backup
from index.backup import back_up_before_upgrade, find, take
from service.commands import backup as commands
from service.settings import Settings
from store.errors import BackupFailed, RegistryUnavailable
from store.files import format_json, write_manifest
from store.registry import NEWEST, open_registry
from tests.bitrot import flip
from tests.registries import make_registry
from tests.service.harness import ADMIN_KEY, Service, picture, running, share_service
from tests.service.processes import _SERVE
from tests.service.test_backup_moments import read_state
from tests.service.test_languages import teach
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor


def run(service: Service, *words: str, **settings: str) -> Result:
    own = service.context.settings
    variables = {
        "HOME": str(own.home),
        "PORT": str(service.port),
        "ADMIN_KEY": ADMIN_KEY,
        "DATABASE_URL": own.database_url,
    }
    environment = {f"PICTOGLOT_{name}": value for name, value in {**variables, **settings}.items()}
    return CliRunner().invoke(app, words, env={"COLUMNS": "200", **environment})


def fill(service: Service) -> None:
    """Add two languages and three pictures."""
    version = service.learn("cy")
    (service.home / str(version.folder)).mkdir(parents=True)  # which the registry names, and no dataset
    (service.home / str(version.folder) / "rows").write_bytes(b"taught")
    service.context.registry.retention.note_dataset_removed(str(version.expansion))
    for number in range(3):
        assert service.put(f"p{number}", picture(number), en=[f"motif {number}"], cy=[f"llun {number}"]).is_success
    assert teach(service, "br").status_code == 202
    service.context.live.refresh()


service = share_service(fill, keep_originals=True)  # one to which nothing is written


@pytest.fixture(scope="module")
def kept(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its backups, with one."""
    folder = tmp_path_factory.mktemp("backups")
    take(service.context.settings, folder)
    return folder


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    shutil.copytree(find(kept).folder, tmp_path / "copied")
    return tmp_path / "copied"


@contextmanager
def serve_here(own: dict[str, str], _: Path) -> Iterator[httpx.Client]:
    """Serve a trial in this process, which saves the seconds of a start."""
    with running(Path(own["HOME"]), database_url=own["DATABASE_URL"]) as trial:
        yield trial.admin


@pytest.mark.parametrize("here", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_a_backup_is_made_verified_and_restored_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Callable[[], str], here: bool
) -> None:
    source = _SERVE.format(encoder="WeightlessEncoder()", constants="pass")
    monkeypatch.setattr(commands, "build_command", lambda module: [sys.executable, "-c", source])
    if here:
        monkeypatch.setattr(commands, "_serve", serve_here)
    place, home, url = tmp_path / "backups", tmp_path / "restored", new_database()
    with running(tmp_path / "home", database_url=new_database(), keep_originals=True) as service:
        fill(service)
        for each in (service.home, home):  # a base from the network
            (each / ".cache" / "huggingface").mkdir(parents=True)
            (each / ".cache" / "huggingface" / "weights").write_bytes(b"weights")
        made = run(service, "backup", str(place), "--json")
        assert made.exit_code == 0, made.output
        document = json.loads(made.stdout)
        assert document["languages"] == ["cy", "en"] and (document["pictures"], document["answers"]) == (3, 6)
        manifest = find(place).manifest
        assert {"release", "revision", "base", "time"} <= manifest.keys()
        assert not [name for name in manifest["files"] if ".cache" in name]
        assert all(len(facts["sha256"]) == 64 for facts in manifest["files"].values())
        verified = run(service, "backup", "verify", str(place))
        assert verified.exit_code == 0, verified.output
        assert "It opens, and answers 6 searches, 6 of them as noted then." in verified.output
        assert [*place.glob(".*")] == []
        done = run(service, "restore", str(place), HOME=str(home), DATABASE_URL=url)
        assert done.exit_code == 0 and done.output.startswith("Release 2 of 20") and str(home) in done.output
        expected = read_state(service)
        again = run(service, "restore", str(place), HOME=str(home), DATABASE_URL=url)
        assert again.exit_code == 1 and f"{home} is not empty" in again.output
    with running(home, database_url=url) as restored:
        assert read_state(restored) == expected


def test_pictures_without_captions_are_searched_for_by_words(tmp_path: Path) -> None:
    with running(tmp_path / "home") as service:
        service.put("a").raise_for_status()
        made = run(service, "backup", str(tmp_path / "backups"), "--json")
        assert made.exit_code == 0 and json.loads(made.stdout)["answers"] == 3, made.output


def test_answers_that_differ_are_told(service: Service) -> None:
    questions = [
        {"language": "cy", "text": "llun 1", "answer": None},
        {"language": "qu", "text": "x", "answer": None},
    ]
    first, unserved = questions
    answer = commands.ask(service.admin, first)
    assert answer is not None and len(answer[1]) == 3
    assert commands.find_differences(service.admin, [{**first, "answer": answer}, first]) == []
    version, hits = answer
    others: list[Any] = [[version + 1, hits], [version, hits[1:]], [version, [["other", hits[0][1]], *hits[1:]]]]
    others.append([version, [[hits[0][0], hits[0][1] - 0.1], *hits[1:]]])
    wrong = [{**first, "answer": other} for other in others]
    assert [each["found"] for each in commands.find_differences(service.admin, wrong)] == [answer] * 4
    assert len(commands.find_differences(service.admin, [unserved])) == 1


@pytest.mark.parametrize("small_disk", ["64m"], indirect=True)
def test_what_the_backup_before_has_is_not_copied_again(service: Service, small_disk: Path, tmp_path: Path) -> None:
    for place in (small_disk, tmp_path / "here"):
        first = take(service.context.settings, place)
        second = take(service.context.settings, place, keep=2)
        assert (
            second.manifest["new_bytes"]
            == second.manifest["files"]["registry.db"]["size"]
            < first.manifest["new_bytes"]
        )
        assert first.folder.stat().st_mode & 0o077 == 0, "keys and captions are for nobody else"
        for name in second.manifest["files"]:
            assert name == "registry.db" or (first.folder / name).samefile(second.folder / name)
        dataset = next(file for file in service.home.glob("expansions/*/**/*") if file.is_file())
        os.utime(dataset)  # written again with the same content
        third = take(service.context.settings, place, keep=2)
        assert third.manifest["new_bytes"] == second.manifest["new_bytes"]
        assert backup.list_folders(place) == [second.folder, third.folder]


def test_a_damaged_file_is_not_linked_from_one_backup_to_the_next(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.copier._DAYS", 1)  # so that each file is due
    shutil.copytree(service.home, tmp_path / "home")
    settings, place = Settings(home=tmp_path / "home"), tmp_path / "backups"
    first = take(settings, place)
    file = next(file for file in (first.folder / "home/expansions").rglob("*") if file.is_file())
    flip(file, 4 * file.stat().st_size)
    second = take(settings, place)
    second.verify()
    with pytest.raises(BackupFailed, match="differs from its manifest"):
        first.verify()
    shown = next((tmp_path / "home/pictures").rglob("*.thumb.jpg"))
    flip(shown, 4 * shown.stat().st_size)
    third = take(settings, place, keep=1)
    assert third.manifest["damaged"] == [shown.relative_to(tmp_path / "home").as_posix()]
    with pytest.raises(BackupFailed, match="differs from its manifest"):
        third.verify()
    result = run(service, "backup", str(place), HOME=str(tmp_path / "home"), PORT="1")
    assert result.exit_code == 1 and "1 file damaged in the data root" in result.output
    assert "0 answers noted, since no service answered" in result.output
    assert len(backup.list_folders(place)) == 4, "the last whole one stays"


@pytest.mark.parametrize("small_disk", ["300k"], indirect=True)
def test_a_full_disk_leaves_no_half_of_a_backup_or_restore(service: Service, kept: Path, small_disk: Path) -> None:
    failed = run(service, "backup", str(small_disk))
    assert failed.exit_code == 1 and f"The disk of {small_disk} is full" in failed.output
    assert [*small_disk.iterdir()] == []
    home = small_disk / "home"
    failed = run(service, "restore", str(kept), HOME=str(home))
    assert failed.exit_code == 1 and f"The disk of {home} is full" in failed.output
    assert [*home.iterdir()] == []


def test_a_backup_that_lacks_a_file_says_so_and_takes_the_place_of_no_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_serve", serve_here)
    place = tmp_path / "backups"
    with running(tmp_path / "home") as service:
        service.put("a", picture(1))
        assert run(service, "backup", str(place)).exit_code == 0
        service.context.gallery.files.locate(service.context.gallery.get("a").content_sha256).unlink()
        lacking = run(service, "backup", str(place), "--keep", "1")
        assert lacking.exit_code == 1 and "1 file missing that the registry names" in lacking.output
        verified = run(service, "backup", "verify", str(place))
        assert verified.exit_code == 1 and "It lacks 1 file" in verified.output
    assert len(backup.list_folders(place)) == 2


def change_a_byte(folder: Path) -> None:
    flip(next((folder / "home/pictures").rglob("*.thumb.jpg")), 800)


def change_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(format_json({**manifest, "release": 9}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is missing": lambda folder: next((folder / "home/pictures").rglob("*.jpg")).unlink(),
    "differs from its manifest": change_a_byte,
    "home/more is missing, or there": lambda folder: (folder / "home/more").touch(),
    "differs from its own checksum": change_the_manifest,
    "the manifest cannot be read": lambda folder: os.truncate(folder / "manifest.json", 100),
    "There is no backup in": lambda folder: (folder / "manifest.json").unlink(),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_a_damaged_backup_is_neither_verified_nor_restored(
    service: Service, copied: Path, tmp_path: Path, said: str
) -> None:
    DAMAGES[said](copied)
    home = tmp_path / "restored"
    for words in (("backup", "verify", str(copied)), ("restore", str(copied))):
        failed = run(service, *words, HOME=str(home))
        assert failed.exit_code == 1 and said in failed.output and failed.output.count("\n") == 1
    assert not home.exists()


def test_what_cannot_be_backed_up_or_restored_is_refused(service: Service, copied: Path, tmp_path: Path) -> None:
    for words, status, sentence in (
        (["backup", str(service.home / "backups")], 1, "is in the data root"),
        (["backup", "verify"], 2, "Name one folder"),
        (["backup", str(tmp_path / "a"), str(tmp_path / "b")], 2, "Name one folder"),
        (["backup", "verify", str(tmp_path / "nothing")], 1, "There is no backup"),
        (["backup", "verify", "a" * 300], 1, "cannot be read or written"),
    ):
        refused = run(service, *words)
        assert (refused.exit_code, sentence in refused.output) == (status, True), refused.output
    nothing = run(service, "backup", str(tmp_path / "new"), HOME=str(tmp_path / "none"))
    assert nothing.exit_code == 1 and "nothing to back up" in nothing.output and not (tmp_path / "none").exists()
    there = make_registry(tmp_path / "elsewhere.db")
    with pytest.raises(BackupFailed, match="There is a registry"):
        find(copied).restore(Settings(home=tmp_path / "restored", database_url=there))
    (tmp_path / "log.db-wal").write_bytes(b"played back")
    with pytest.raises(BackupFailed, match=r"log\.db-wal exists"):
        find(copied).restore(Settings(home=tmp_path / "restored", database_url=f"sqlite:///{tmp_path}/log.db"))
    with backup._hold(tmp_path / "held", wait=False):
        refused = run(service, "backup", str(tmp_path / "held"))
    assert refused.exit_code == 1 and "Another backup is being made" in refused.output
    refused = run(service, "backup", str(copied))
    assert refused.exit_code == 1 and "is a backup itself" in refused.output
    with pytest.raises(BackupFailed, match="is of sqlite"):
        find(copied).restore(Settings(home=tmp_path / "restored", database_url="postgresql://nowhere/x"))
    manifest = find(copied).manifest | {"revision": "9999"}
    write_manifest(copied, manifest)
    with pytest.raises(BackupFailed, match="newer release"):
        find(copied).restore(Settings(home=tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()


def test_files_that_the_store_alone_has_are_in_it_and_restored_into_an_empty_one(tmp_path: Path, store: str) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    with running(tmp_path / "one", store=store, database_url=url) as service:
        service.put("a", picture(1), en=["a motif"])
        assert teach(service).status_code == 202
        expected = read_texts(service)
    there = Settings(home=tmp_path / "two", store=store, database_url=url)
    made = [take(there, tmp_path / "backups") for _ in range(2)][-1]
    assert not made.manifest["missing"] and made.manifest["new_bytes"] == made.manifest["files"]["registry.db"]["size"]
    home: dict[str, Any] = {"home": tmp_path / "restored", "database_url": f"sqlite:///{tmp_path / 'restored.db'}"}
    with pytest.raises(BackupFailed, match=f"{store} is not empty"):
        made.restore(Settings(store=store, **home))
    made.restore(Settings(store=f"{store}/restored", **home))
    shutil.rmtree(home["home"])
    with running(store=f"{store}/restored", **home) as restored:
        assert read_texts(restored) == expected


def read_texts(service: Service) -> list[Any]:
    """Read a picture's file, and what words are searched for."""
    return [service.admin.get("/v1/pictures/a/content").content, service.search("a motif").json()["items"][0]["id"]]


@pytest.mark.parametrize(
    ("release", "sentence"), [("", "is not on PATH"), ("9.6", "is of release 9, and the server of")]
)
def test_a_missing_or_old_pg_dump_is_refused(
    tmp_path: Path, new_postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch, release: str, sentence: str
) -> None:
    url = new_postgresql()
    with closing(open_registry(url)) as registry:
        registry.initialise("base")
    if release:
        (tmp_path / "pg_dump").write_text(f"#!/bin/sh\necho pg_dump '(PostgreSQL)' {release}\n")
        (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupFailed, match=sentence):
        take(Settings(home=tmp_path / "home", database_url=url), tmp_path / "backups")
    assert [*(tmp_path / "backups").iterdir()] == []


def test_a_backup_is_taken_before_a_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "home") as service:
        service.put("a", picture(1))
    settings: dict[str, Any] = {"home": tmp_path / "home", "backup_before_upgrade": str(tmp_path / "backups")}
    back_up_before_upgrade(Settings(**settings))
    assert not (tmp_path / "backups").exists()
    monkeypatch.setattr("store.registry.NEWEST", f"{int(NEWEST) + 1:04}")
    back_up_before_upgrade(Settings(**settings))
    assert find(tmp_path / "backups").manifest["revision"] == NEWEST
    with pytest.raises(RegistryUnavailable, match="service has to back up"):
        Supervisor(WorkerSettings(**settings)).registry.probe()
    with pytest.raises(BackupFailed, match="in the data root"):
        back_up_before_upgrade(Settings(**{**settings, "backup_before_upgrade": str(tmp_path / "home/inside")}))


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
            other.context.root.remove_from_store(name)
        assert len(other.admin.post("/v1/admin/index/verify").json()["problems"]) == 3
