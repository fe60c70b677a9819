"""`import` against a real server: what is sent, changed, skipped, reported and deleted, run after run."""

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from client.importing import upload
from client.importing.journal import open_state
from tests.client.importing.test_exif import make_exif
from tests.client.test_commands import run, run_json
from tests.service.harness import ADMIN_KEY, Service, picture, running, share_service

service = share_service()  # an empty gallery; each test uses names of its own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures below a folder, whose names no other test uses."""
    folder = tmp_path / "photos"
    (folder / "z").mkdir(parents=True)
    for number, place in enumerate(("a.png", "b.png", "z/a.png", "z/c.jpg")):
        file = folder / place
        named = file.with_name(f"{tmp_path.name}-{file.name}")
        named.write_bytes(picture(70 + number, format="JPEG" if file.suffix == ".jpg" else "PNG"))
    return folder


def list_ids(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*") if file.is_file())


def list_present(service: Service, names: list[str]) -> list[str]:
    wanted = {"must": [{"key": "id", "match": {"any": names}}]}
    items = service.admin.get("/v1/pictures", params={"filter": json.dumps(wanted), "limit": 100}).json()["items"]
    return sorted(item["id"] for item in items)


def show_picture(service: Service, id: str) -> Any:
    return run_json(service, "pictures", "show", id)


def list_outcomes(done: Any) -> dict[str, str]:
    return {each["id"]: each["outcome"] for each in done["added"]}


def test_a_folder_comes_in_once_and_then_only_what_changed(service: Service, folder: Path) -> None:
    names = list_ids(folder)
    assert list_outcomes(run_json(service, "import", str(folder))) == dict.fromkeys(names, "added")
    assert list_present(service, names) == names
    assert run_json(service, "import", str(folder))["there"] == 4
    b, c = (folder / f"{name}.png" for name in names[1:3])
    kept = b.stat()
    b.write_bytes(bytes(kept.st_size))  # other bytes, of the same size and time: whoever read it would notice
    os.utime(b, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    os.utime(c)  # another time, the same bytes
    next(folder.glob("*-a.png")).write_bytes(picture(90))
    done = run_json(service, "import", str(folder))
    assert (list_outcomes(done), done["there"], done["refused"]) == ({names[0]: "replaced"}, 3, [])
    assert run(service, "import", str(folder)).stdout == "4 of 4 pictures are in the gallery; 4 were there before.\n"


def test_what_is_in_the_gallery_counts_and_not_what_was_sent_once(service: Service, folder: Path) -> None:
    """A client that lost its state sends nothing twice; what was deleted in the gallery comes back only when asked."""
    names = list_ids(folder)
    run_json(service, "import", str(folder))
    service.admin.delete(f"/v1/pictures/{names[0]}")
    os.utime(next(folder.glob("*-a.png")))
    for _ in range(2):
        done = run_json(service, "import", str(folder))
        assert (list_outcomes(done), done["there"], len(done["gone"])) == ({}, 3, 1)
    result = run(service, "import", str(folder))
    assert "1 picture was deleted in the gallery; --again sends it: " in result.stderr
    assert result.stdout.startswith("3 of 4 pictures are in the gallery")
    assert list_outcomes(run_json(service, "import", str(folder), "--again"))[names[0]] == "added"
    done = run_json(service, "import", str(folder), "--state", str(folder.parent / "other"))
    assert (list_outcomes(done), done["there"]) == ({}, 4)


def test_what_people_changed_in_the_gallery_stays(service: Service, folder: Path) -> None:
    id = list_ids(folder)[0]
    run_json(service, "import", str(folder), "--tag", "x", "--collection", "mine")
    run_json(service, "pictures", "edit", id, "--tag", "edited", "--metadata", '{"seen": true}')
    run_json(service, "import", str(folder), "--tag", "x", "--collection", "mine")
    os.utime(next(folder.glob("*-a.png")))
    run_json(service, "import", str(folder), "--tag", "x", "--collection", "mine")
    assert (show_picture(service, id)["tags"], show_picture(service, id)["metadata"]["seen"]) == (["edited"], True)
    done = run_json(service, "import", str(folder), "--tag", "y", "--collection", "mine")  # said otherwise
    assert set(list_outcomes(done).values()) == {"changed"} and len(done["added"]) == 4
    assert (show_picture(service, id)["tags"], show_picture(service, id)["metadata"]["seen"]) == (["y"], True)


def test_a_picture_that_somebody_replaced_stays_until_its_file_changes(service: Service, folder: Path) -> None:
    names = list_ids(folder)
    run_json(service, "import", str(folder))
    service.put(names[0], picture(200))
    shown = show_picture(service, names[0])["url"]
    refused = run(service, "import", str(folder))
    assert refused.exit_code == 1 and "The gallery has another picture with this id" in refused.stderr
    assert show_picture(service, names[0])["url"] == shown
    file = next(folder.glob("*-a.png"))
    file.write_bytes(picture(201))
    assert list_outcomes(run_json(service, "import", str(folder))) == {names[0]: "replaced"}
    service.put(names[0], picture(200))
    file.unlink()
    assert run_json(service, "import", str(folder), "--delete")["deleted"] == 0
    assert list_present(service, names) == names


def test_what_a_file_says_only_fills_what_a_curated_record_lacks(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without the state, with another tag, read by a newer version; and with another content."""
    file, id = tmp_path / "curated.jpg", "curated"
    file.write_bytes(picture(31, format="JPEG", exif=make_exif()))
    run_json(service, "import", str(file), "--tag", "trip")
    item = show_picture(service, id)
    assert (item["tags"], item["captions"], item["metadata"]["latitude"]) == (["trip", "wood", "stone"], {}, 46.85)
    given = ("import", str(file), "--caption-language", "en")
    run_json(service, *given, "--tag", "trip")
    assert show_picture(service, id)["captions"] == {"en": ["A bridge over the river"]}
    edit = {"metadata": {"creator": "Bea", "camera": None}, "tags": ["mine", "wood"]}
    edit |= {"captions": {"en": ["a fine bridge"], "cy": ["pont"]}}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert service.admin.patch(f"/v1/pictures/{id}", json=edit, headers=headers).status_code == 200
    curated = {"tags": ["mine", "wood", "trip"], "creator": "Bea", "camera": "Camera X"}

    def found() -> dict[str, Any]:
        item = service.admin.get(f"/v1/pictures/{id}").json()
        assert item["own"] == {"en": ["a fine bridge"], "cy": ["pont"]}
        return {"tags": item["tags"], **{key: item["metadata"][key] for key in ("creator", "camera")}}

    run_json(service, *given, "--tag", "trip", "--state", str(tmp_path / "other"))
    assert found() == curated
    monkeypatch.setattr(upload, "_READER_VERSION", 99)
    run_json(service, *given, "--tag", "trip")
    assert found() == curated
    run_json(service, *given, "--tag", "trip 2")
    assert found() == {**curated, "tags": ["trip 2", "wood"]}
    file.write_bytes(picture(32, format="JPEG", exif=make_exif(description="")))
    assert list_outcomes(run_json(service, *given, "--tag", "trip 3")) == {id: "replaced"}
    assert found() == {**curated, "tags": ["trip 2", "wood", "trip 3", "stone"], "creator": "Ana"}


def test_what_vanished_is_told_and_deleted_only_when_asked(service: Service, folder: Path) -> None:
    names = list_ids(folder)
    run_json(service, "import", str(folder))
    shutil.rmtree(folder / "z")
    result = run(service, "import", str(folder))
    assert "2 pictures vanished, and stay in the gallery; --delete removes them: z/" in result.stderr
    would = run(service, "import", str(folder), "--delete", "--dry-run")
    assert "2 pictures would be deleted" in would.stderr and list_present(service, names) == names
    done = run_json(service, "import", str(folder), "--delete")
    assert (done["deleted"], list_present(service, names)) == (2, names[:2])
    assert run_json(service, "import", str(folder), "--delete")["vanished"] == []
    for file in list(folder.iterdir()):
        file.unlink()
    assert run(service, "import", str(folder), "--delete").exit_code == 2  # a disk that is not mounted looks like this
    assert list_present(service, names) == names[:2]


def test_nothing_is_sent_by_a_dry_run_nor_by_a_strict_one_with_a_fault(service: Service, folder: Path) -> None:
    names = list_ids(folder)
    done = run(service, "import", str(folder), "--dry-run")
    assert "4 of 4 pictures would be sent or changed. Nothing was." in done.stdout
    (folder / "z.png").symlink_to("gone")
    strict = run(service, "import", str(folder), "--strict")
    assert strict.exit_code == 2 and "z.png: The link leads nowhere" in strict.stderr
    assert list_present(service, names) == []
    (folder / "z.png").unlink()
    assert len(run_json(service, "import", str(folder), "--strict")["added"]) == 4
    (folder / "z.png").write_bytes(picture(1)[:60])  # only the service sees this
    strict = run(service, "import", str(folder), "--strict")
    assert strict.exit_code == 2 and "0 pictures were added until then" in strict.stderr


def test_a_dry_run_counts_what_would_be_refused_and_why(folder: Path, tmp_path: Path) -> None:
    (folder / "large.png").write_bytes(picture(1) + bytes(150_000))
    (folder / "many.jpg").write_bytes(picture(2, 1_200, format="JPEG"))
    (folder / "bad.png").write_bytes(picture(1)[:20])
    (folder / "text.heic").write_bytes(b"no picture")
    with running(tmp_path / "home", picture_bytes=100_000, picture_pixels=1_000_000) as small:
        result = run(small, "import", str(folder), "--dry-run")
        assert result.exit_code == 1 and "4 of 8 pictures would be sent or changed; 4 would be refused" in result.stdout
        faults = dict(line.split(": ", 1) for line in result.stderr.splitlines())
        assert faults["large.png"].startswith(
            "It has 0.15 MB; a picture may have at most 0.1 MB (PICTOGLOT_PICTURE_BYTES)"
        )
        assert faults["many.jpg"] == "It has 1.44 megapixels; a picture may have at most 1 (PICTOGLOT_PICTURE_PIXELS)."
        assert "damaged" in faults["bad.png"] and "no picture that is read" in faults["text.heic"]
        done = run(small, "import", str(folder))
        assert "4 of 8 pictures are in the gallery" in done.stdout
        assert (
            "0.1 MB (PICTOGLOT_PICTURE_BYTES)" in done.stderr
            and "1 megapixels (PICTOGLOT_PICTURE_PIXELS)" in done.stderr
        )


def test_a_file_that_is_there_already_is_named(service: Service, folder: Path) -> None:
    first = next(folder.glob("*-a.png"))
    first.write_bytes(picture(399))
    (folder / "z" / f"copy-of-{first.name}").write_bytes(first.read_bytes())
    result = run(service, "import", str(folder))
    assert f"z/copy-of-{first.name}: already there as {first.stem}; it is in the gallery twice now." in result.stderr


def test_every_kind_of_fault_is_a_line_at_the_end_and_the_rest_comes_in(service: Service, folder: Path) -> None:
    (folder / "bad.png").write_bytes(picture(1)[:60])
    (folder / ".hidden.png").write_bytes(picture(2))
    (folder / "notes.txt").write_text("x")
    (folder / "new.JXL").write_bytes(b"\xff\x0a")
    (folder / "drawing.svg").write_text("<svg/>")
    (folder / "loop").symlink_to(folder)
    done = run(service, "import", str(folder))
    assert done.exit_code == 1 and "4 of 6 pictures are in the gallery." in done.stdout
    lines = [line for line in done.stderr.splitlines() if "already there as" not in line]  # of another test
    *faults, skipped = (line.partition(": ") for line in lines)
    assert [place for place, *_ in faults] == ["loop", "bad.png"]
    assert skipped[0] == "4 other files were skipped"
    assert sorted(skipped[2].split(", ")) == ["1 .jxl", "1 .svg", "1 .txt", "1 hidden"]


def test_two_files_of_one_name_both_come_in_and_keep_their_ids(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    (folder / "twin.png").write_bytes(picture(1))
    assert [*list_outcomes(run_json(service, "import", str(folder)))] == ["twin"]
    (folder / "twin.jpg").write_bytes(picture(2, format="JPEG"))  # comes first in order
    assert [*list_outcomes(run_json(service, "import", str(folder), "--strict"))] == ["twin.jpg"]
    assert run_json(service, "import", str(folder))["there"] == 2


def test_the_same_names_in_another_folder_replace_nothing(service: Service, folder: Path, tmp_path: Path) -> None:
    run_json(service, "import", str(folder))
    other = tmp_path / "other"
    other.mkdir()
    name = list_ids(folder)[0]
    (other / f"{name}.png").write_bytes(picture(99))
    refused = run(service, "import", str(other))
    assert refused.exit_code == 1 and "The gallery has another picture with this id" in refused.stderr
    assert list_outcomes(run_json(service, "import", str(other), "--prefix", "other-")) == {f"other-{name}": "added"}
    assert list_outcomes(run_json(service, "import", str(other), "--again")) == {name: "replaced"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("--collection", "Mis\nfotos"), "collection"),
        (("--collection", ""), "collection"),
        (("--tag", "trip", "--tag", " "), "--tag: a tag has 1 to 200 characters."),
        (("--caption-language", "Welsh"), "--caption-language: not the tag of a registered language"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["sent", "dry"])
def test_what_would_be_refused_of_every_picture_is_told_once_and_before_any_is_sent(
    service: Service, folder: Path, said: tuple[str, ...], told: str, dry: tuple[str, ...]
) -> None:
    result = run(service, "import", str(folder), *said, *dry)
    assert (result.exit_code, result.stdout) == (2, "") and told in result.stderr.splitlines()[0], result.stderr


def test_a_manifest_brings_records_and_a_changed_row_changes_them(service: Service, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture(5))
    table = tmp_path / "list.csv"
    table.write_text("file,id,caption_de,caption_rm,collection,Year\nx.png,row-1,Brücke,punt,museum,1950\ny.png,,,,,\n")
    done = run(service, "import", str(table), "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["refused"] == [
        {"file": "line 3", "reason": "y.png cannot be read: No such file or directory."}
    ]
    item = show_picture(service, "row-1")
    assert (item["collection"], item["metadata"]) == ("museum", {"year": 1950})
    assert item["waiting"] == {"de": ["Brücke"], "rm": ["punt"]}
    assert run(service, "import", str(table), "--strict").exit_code == 2
    table.write_text("file,id,caption_de,Year\nx.png,row-1,die Brücke,1951\n")
    assert list_outcomes(run_json(service, "import", str(table))) == {"row-1": "changed"}
    item = show_picture(service, "row-1")
    assert (item["waiting"]["de"], item["metadata"], item["collection"]) == (["die Brücke"], {"year": 1951}, "museum")
    rows = tmp_path / "list.jsonl"
    for texts, there in ((["Steg", "Pfad"], {"die Brücke", "Steg", "Pfad"}), (["Steg"], {"Steg"})):  # taken out again
        rows.write_text(json.dumps({"file": "x.png", "id": "row-1", "captions": {"de": texts}}))
        assert list_outcomes(run_json(service, "import", str(rows))) == {"row-1": "changed"}
        assert {*show_picture(service, "row-1")["waiting"]["de"]} == there


def test_faulty_rows_of_a_manifest_are_told_one_by_one_and_ids_are_composed(service: Service, tmp_path: Path) -> None:
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_bytes(picture(ord(name[0])))
    rows = tmp_path / "list.jsonl"
    given = [
        {"file": "x.png", "id": "Zu\u0308rich"}, {"file": "y.png", "id": "Z\u00fcrich"}, {"file": "y.png", "id": ".."},
        {"file": "y.png", "id": "half", "captions": {"en": ["\ud800"]}},
        {"file": "y.png", "id": "nan", "x": float("nan")}, {"file": "y.png", "id": "whole"},
    ]  # fmt: skip
    rows.write_text("".join(json.dumps(row) + "\n" for row in given))
    prefix = ("--prefix", "cafe\u0301-")
    for outcome in ("added", "there"):
        done = json.loads(run(service, "import", str(rows), *prefix, "--json").stdout)
        assert {each["file"].partition(" (")[0] for each in done["refused"]} == {"line 2", "line 4", "line 5"}
        assert (len(done["added"]), done["there"]) == ((3, 0) if outcome == "added" else (0, 3))
    assert list_present(service, ["caf\u00e9-Z\u00fcrich", "caf\u00e9-whole"]) == [
        "caf\u00e9-Z\u00fcrich",
        "caf\u00e9-whole",
    ]
    alone = run(service, "import", str(rows))
    assert alone.exit_code == 1 and "line 3 (y.png): Its name cannot be an id" in alone.stderr
    assert "line 2: Line 1 has the same id" in alone.stderr and list_present(service, ["whole"]) == ["whole"]
    strict = run(service, "import", str(rows), "--strict")
    assert strict.exit_code == 2 and "line 2: Line 1 has the same id" in strict.stderr


def test_one_import_of_a_source_at_a_time_and_a_damaged_state_is_told(service: Service, folder: Path) -> None:
    state = folder.parent / "state"
    with open_state(state, service.url, str(folder)):
        busy = run(service, "import", str(folder), "--state", str(state))
        assert busy.exit_code == 1 and "Another import of" in busy.stderr
    (file,) = state.glob("*.db")
    file.write_bytes(b"no database" * 1_000)
    damaged = run(service, "import", str(folder), "--state", str(state))
    assert damaged.exit_code == 1 and "is damaged" in damaged.stderr
    file.unlink()
    assert len(run_json(service, "import", str(folder), "--state", str(state))["added"]) == 4
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM known").fetchone() == (4,)


def test_what_is_no_source_is_refused_with_a_sentence(service: Service, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    for given, said in (("gone", "does not exist"), ("x.txt", "cannot be imported"), ("empty", "no picture")):
        refused = run(service, "import", str(tmp_path / given))
        assert refused.exit_code == 2 and said in refused.stderr and "Traceback" not in refused.stderr
    for option in ("--json", "--strict"):
        assert run(None, "import", str(tmp_path), "--watch", option).exit_code == 2


def test_a_key_of_a_collection_imports_into_it_alone(service: Service, folder: Path) -> None:
    key = service.key("write", collections=["near"])
    assert run(service, "import", str(folder), key=key).exit_code == 0
    assert show_picture(service, list_ids(folder)[0])["collection"] == "near"
    assert run(service, "import", str(folder), "--collection", "far", key=key).exit_code == 2
    assert key != ADMIN_KEY
