"""What sources find, without a service: folders, manifests, and which argument is which."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from client.importing import Item, SkippedPart, SkipReason, SourceError, SourceRecord, UnreadableError
from client.importing.command import open_sources
from client.importing.files import Folder, Manifest
from tests.service.harness import picture

NOTHING = SourceRecord()


def list_ids(parts: Sequence[Item | SkippedPart]) -> list[str]:
    return [part.id for part in parts if isinstance(part, Item)]


def list_faults(parts: Sequence[Item | SkippedPart]) -> dict[str, str]:
    return {
        part.place: part.sentence
        for part in parts
        if isinstance(part, SkippedPart) and part.reason is SkipReason.UNUSABLE
    }


def test_a_folder_is_walked_in_order_and_what_is_no_picture_is_told(tmp_path: Path) -> None:
    inside = tmp_path / "2019" / "Zürich"
    inside.mkdir(parents=True)
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt"):
        (inside / name).write_bytes(b"x")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "c.png").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(inside)
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.png")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))).write_bytes(b"x")
    parts = list(Folder(tmp_path, NOTHING).list_parts())
    assert list_ids(parts) == ["2019/Zürich/a", "2019/Zürich/b"]
    assert {
        part.place: part.reason
        for part in parts
        if isinstance(part, SkippedPart) and part.reason is not SkipReason.UNUSABLE
    } == {
        ".trash": SkipReason.HIDDEN,
        "2019/Zürich/.hidden.png": SkipReason.HIDDEN,
        "2019/Zürich/notes.txt": SkipReason.OTHER,
    }
    assert list_faults(parts) == {
        "again": "The link leads to a folder that was read already.",
        "caf\\xe9.png": "Its name is not UTF-8.",
        "loop": "The link leads to a folder that was read already.",
        "nowhere.png": "The link leads nowhere.",
        "pipe.png": "It is not a file.",
    }


def test_a_file_that_changes_while_it_is_read_is_not_taken_half(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(picture(1)[:50])
    (item,) = Folder(tmp_path, NOTHING).list_parts()
    assert isinstance(item, Item)
    file.write_bytes(picture(1))
    with pytest.raises(UnreadableError, match="changed while it was read"):
        item.read()


def test_a_table_says_everything_of_a_picture_in_its_columns(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        "file;id;tags;captions;caption_de;caption_rm;collection;Inv. No.;Year;metadata\n"
        'in/a.png;m-1;bridge;"{""en"": [""a bridge""], ""de"": ""eine Brücke""}";die Brücke;ina punt;museum;007;1950;\n'
        'b.png;;"[""a;b"", ""c""]";;;;;;19.5;"{""place"": ""Chur""}"\n',
        encoding="utf-8-sig",
    )
    first, second = Manifest(tmp_path / "list.csv", SourceRecord(tags=("all",))).list_parts()
    assert isinstance(first, Item) and isinstance(second, Item)
    assert (first.id, first.record.collection, first.record.tags) == ("m-1", "museum", ("bridge", "all"))
    assert first.record.captions == {"en": ["a bridge"], "de": ["eine Brücke", "die Brücke"], "rm": ["ina punt"]}
    assert first.record.metadata == {"inv_no": "007", "year": 1950}
    assert (second.id, second.record.tags) == ("b", ("a;b", "c", "all"))
    assert second.record.metadata == {"place": "Chur", "year": 19.5}


def test_a_caption_of_no_language_has_the_one_that_was_named_or_is_metadata(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "m.csv").write_text("file,Caption,caption_de\na.png,a bridge,eine Brücke\n", encoding="utf-8")
    for row, said in ((",2024", ["2024"]), ("eins,", ["eins"]), ("eins,zwei", ["eins", "zwei"])):
        (tmp_path / "n.csv").write_text(f"file,caption_de,caption\na.png,{row}\n", encoding="utf-8")
        (both,) = Manifest(tmp_path / "n.csv", NOTHING, language="de").list_parts()
        assert isinstance(both, Item) and both.record.captions == {"de": said}
    (tmp_path / "n.jsonl").write_text('{"file": "a.png", "caption": ["one", "two"]}')
    (listed,) = Manifest(tmp_path / "n.jsonl", NOTHING, language="en").list_parts()
    assert isinstance(listed, Item) and listed.record.captions == {"en": ["one", "two"]}
    (named,) = Manifest(tmp_path / "m.csv", NOTHING, language="en").list_parts()
    (other,) = Manifest(tmp_path / "m.csv", NOTHING).list_parts()
    assert isinstance(named, Item) and isinstance(other, Item)
    assert named.record.captions == {"en": ["a bridge"], "de": ["eine Brücke"]} and not named.record.metadata
    assert other.record.captions == {"de": ["eine Brücke"]} and other.record.metadata == {"caption": "a bridge"}


def test_no_column_of_a_table_is_lost_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    header, cells = "file,اسم,Preis €,Preis $,Titel,titel,,caption,Caption", "a.png,one,2,3,four,five,six,seven,eight"
    (tmp_path / "m.csv").write_text(f"{header}\n{cells}\n", encoding="utf-8")
    (item,) = Manifest(tmp_path / "m.csv", NOTHING).list_parts()
    assert isinstance(item, Item)
    assert item.record.metadata == {
        "column_2": "one", "preis": 2, "preis_4": 3, "titel": "four", "titel_6": "five", "column_7": "six",
        "caption": "seven", "column_9": "eight",
    }  # fmt: skip


def test_a_row_that_cannot_be_used_is_told_by_its_line(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    rows: list[object] = [
        {"file": "a.png"}, {"id": "x"}, {"file": "../a.png"}, {"file": "/etc/passwd"}, {"file": "gone.png"}, [],
        {"file": "a.png", "captions": {"en": 1}}, {"file": "a.png", "tags": [1]}, {"file": "a.png", "metadata": "x"},
        {"file": "a.png", "year": {"a": 1}}, {"file": "a\0.png"}, {"file": "."},
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows) + "{torn"
    (tmp_path / "m.jsonl").write_text(text)
    parts = list(Manifest(tmp_path / "m.jsonl", NOTHING).list_parts())
    assert list_ids(parts) == ["a"]
    assert list(list_faults(parts)) == [f"line {number}" for number in range(2, 14)]
    for first, line in (("", 3), ("sep=,\n", 4)):
        (tmp_path / "m.csv").write_text(f"{first}File,ID\na.png,b\na.png,c,d\n")
        parts = list(Manifest(tmp_path / "m.csv", NOTHING).list_parts())
        assert list_ids(parts) == ["b"]
        assert list_faults(parts) == {f"line {line}": "It has 3 cells, and there are 2 columns."}
    for name, content, said in (
        ("n.csv", b"Picture;Title\na;1\n", "its columns are Picture, Title"),
        ("n.jsonl", b"\xff\n", "UTF-8"),
        ("h.csv", b'file,"cap"x\na.png,b\n', "not a table from line 1 on"),
        ("t.csv", b"file,Tags,tags\na.png,b,c\n", "Two of its columns are called `tags`"),
        ("o.csv", b'sep=;\nfile;Titel\na.png;b\n"a;c\n\n', "not a table from line 4 on"),
        ("p.csv", "file;Ort\na;Zürich\n".encode("cp1252"), "“CSV UTF-8”"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=said):
            list(Manifest(tmp_path / name, NOTHING).list_parts())


def test_an_argument_is_one_source_and_pictures_of_a_folder_are_one(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.csv", "d.tar", "e.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "manifest.jsonl").write_bytes(b"")
    given = [str(tmp_path / name) for name in ("a.png", "b.jpg", "c.csv", "e.json", "exported")]
    found = open_sources([*given, str(tmp_path), "https://example.org/m"], NOTHING, None, None)
    kinds = [type(source).__name__ for source in found]
    assert kinds == ["Manifest", "IiifManifest", "Manifest", "Folder", "IiifManifest", "Folder"]
    assert list_ids(list(found[-1].list_parts())) == ["a", "b"]
    for wrong in ("d.tar", "gone"):
        with pytest.raises(SourceError):
            open_sources([str(tmp_path / wrong)], NOTHING, None, None)
