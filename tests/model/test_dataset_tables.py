"""Tables of captions as spreadsheets write them, and the pictures that rows name by ids or by files."""

import gzip
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.dataset import Dataset, read, validate
from model.dataset.rows import find_ids_of_files
from store.errors import DatasetInvalid, DatasetPictureNotFound
from tests.model.spreadsheets import write_ods, write_xlsx
from tests.model.test_dataset import Reader, jsonl, zipped

ROWS: list[list[Any]] = [["english", "brezhoneg"], ["apple", "aval"], ["", ""], ["five, 5", 5.0], ["pear", "perenn"]]


@pytest.mark.parametrize("write", [write_xlsx, write_ods], ids=["Excel", "LibreOffice"])
def test_a_spreadsheet_is_read_as_it_is_saved(reader: Reader, write: Callable[[list[list[Any]]], bytes]) -> None:
    for data in (write(ROWS), gzip.compress(write(ROWS))):
        found = reader(data)
        assert [(row.line, row.caption, row.english) for row in found.rows] == [
            (2, "aval", "apple"),
            (4, "5", "five, 5"),
            (5, "perenn", "pear"),
        ]
        assert found.report.format == "spreadsheet"
    asked: list[list[Any]] = [
        ["english", "caption", "pictures"],
        ["apple", "aval, avaloù", "p1 p2"],
        ["pear", "", "p3"],
    ]
    answered = reader(write(asked))
    assert [row.caption for row in answered.rows] == ["aval", "avaloù"] and answered.report.unanswered == 1


HOSTILE = {
    "damaged": (write_xlsx(ROWS)[:-40], "spreadsheet_corrupt"),
    "no sheet": (zipped("xl/workbook.xml"), "spreadsheet_corrupt"),
    "old and damaged": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "spreadsheet_corrupt"),
    "grows": (write_xlsx([*ROWS, ["a" * (300 << 20), "b"]]), "decompressed_too_large"),
    "no row": (write_xlsx([]), "no_rows"),
    "no column": (write_xlsx([["a", "b"], ["c", "d"]]), "wrong_columns"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_spreadsheet_is_refused(reader: Reader, case: str) -> None:
    data, kind = HOSTILE[case]
    refused = reader.refusal(data)
    assert isinstance(refused, DatasetInvalid) and refused.extra["kind"] == kind


@pytest.mark.parametrize("quoted", [False, True])
def test_a_table_may_have_semicolons_as_spreadsheets_write_them_and_its_cells_commas(
    reader: Reader, quoted: bool
) -> None:
    header = b'"Caption";"english"' if quoted else b"Caption;english"
    rows = reader(b"\xef\xbb\xbf" + header + b'\r\n"afal; coch\r\niawn";red, apple\r\nglas;"blue"\r\n').rows
    assert [(row.line, row.caption, row.english) for row in rows] == [
        (3, "afal; coch iawn", "red, apple"),
        (4, "glas", "blue"),
    ]
    assert [row.caption for row in reader(b"caption,english,a;b;c;d\nafal; coch,red apple,\n").rows] == ["afal; coch"]


@pytest.mark.parametrize(
    ("said", "between"), [(b"sep=;\r\n", b";"), (b'\xef\xbb\xbf"SEP=,"\r\n', b","), (b"sep=\t\r\n", b"\t")]
)
def test_a_first_line_that_tells_what_stands_between_is_no_header_and_counts(
    reader: Reader, said: bytes, between: bytes
) -> None:
    cells = (b"caption", b"english"), (b"afal", b"apple"), (b"glas",), (b"coch", b"red")
    found = reader(said + b"".join(between.join(row) + b"\r\n" for row in cells))
    assert [(row.line, row.caption, row.english) for row in found.rows] == [(3, "afal", "apple"), (5, "coch", "red")]
    assert {kind: fault.first_lines for kind, fault in found.report.faults.items()} == {"wrong_field_count": (4,)}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"caption,english\rafal,apple\r", "the header must name"),
        (b"caption|english", "with commas, semicolons or tabs in between"),
        (b"caption,english,notes;caption;english", "with commas and with semicolons"),
    ],
)
def test_a_table_whose_header_does_not_tell_what_stands_between_is_refused(
    reader: Reader, header: bytes, said: str
) -> None:
    error = reader.refusal(header + b"\na;b\n")
    assert isinstance(error, DatasetInvalid) and error.extra["kind"] == "wrong_columns" and said in error.detail


def test_other_encodings_are_told_how_to_be_saved(reader: Reader) -> None:
    for encoding in ("utf-16", "cp1252"):
        fault = reader.refusal("caption,english\nBrücke,bridge\n".encode(encoding))
        assert isinstance(fault, DatasetInvalid) and fault.extra["kind"] == "not_utf8" and "CSV UTF-8" in fault.detail


def test_a_line_with_a_carriage_return_in_it_is_no_row(reader: Reader) -> None:
    found = reader(b"caption,english\nafal,apple\na\rb,c\nglas,blue\n")
    assert [row.caption for row in found.rows] == ["afal", "glas"]


# Pictures of a dataset: named by ids, or by files whose names without suffix are ids; and those that are not there


class Gallery:
    """Ids of pictures, and how often these were asked for."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.asked = frozenset(ids), 0

    def known(self, ids: Sequence[str]) -> Collection[str]:
        self.asked += 1
        return self.ids.intersection(ids)


@pytest.mark.parametrize(
    ("name", "ids", "taken"),
    [
        ("IMG_0001.jpg", ("IMG_0001",), "IMG_0001"),
        ("2019/Chur/IMG 7.HEIC", ("2019/Chur/IMG 7",), "2019/Chur/IMG 7"),
        ("a.b.jpeg", ("a.b", "a"), "a.b"),
        ("a.jpg", ("a", "a.jpg"), None),  # an id as it is written
        ("a.png", ("a.jpg",), None),
        ("a.jpg", ("A",), None),
        ("bridge-1.2", ("bridge-1",), None),  # no file
        ("2019.08", ("2019",), None),
        ("a.jpg/b", ("a",), None),
        (".jpg", ("",), None),
    ],
)
def test_a_file_is_its_picture_where_only_the_name_without_suffix_is_an_id(
    name: str, ids: tuple[str, ...], taken: str | None
) -> None:
    assert find_ids_of_files([name, "other"], Gallery(*ids).known) == ({} if taken is None else {name: taken})


def test_a_gallery_is_not_asked_about_ids() -> None:
    asked = Gallery("a")
    assert find_ids_of_files(["a", "b"], asked.known) == {} and asked.asked == 0


def dataset(folder: Path, names: Sequence[str], ids: Gallery) -> Dataset:
    rows = [{"caption": f"afal {number}", "picture": name} for number, name in enumerate(names)]
    (folder / "upload").write_bytes(jsonl(rows))
    return read(folder / "upload", find_ids=lambda names: find_ids_of_files(names, ids.known))


def test_a_picture_under_two_names_is_one_on_one_side_of_the_split(tmp_path: Path) -> None:
    ids = Gallery(*(f"p{number}" for number in range(40)))
    found = dataset(tmp_path, [f"p{number}{end}" for end in ("", ".jpg", ".JPG") for number in range(40)], ids)
    assert {row.picture for row in found.rows} == ids.ids
    sides = {(row.picture, row.split) for row in found.rows}
    assert len(sides) == 40 and {side for _, side in sides} == {"train", "val"}
    report = validate(found, "cy", ids.known)
    assert (report.rows, report.usable, report.pictures, report.by_file) == (120, 120, 40, 80)


def test_a_row_that_differs_in_how_it_names_the_picture_alone_is_a_repetition(tmp_path: Path) -> None:
    rows = [{"caption": "afal", "picture": name} for name in ("p.jpg", "p", "p.png")]
    (tmp_path / "upload").write_bytes(jsonl(rows))
    report = read(tmp_path / "upload", find_ids=lambda names: find_ids_of_files(names, Gallery("p").known)).report
    assert (report.usable, report.duplicates, report.first_duplicates, report.by_file) == (1, 2, (2, 3), 2)


def test_a_refusal_counts_rows_and_pictures_and_shows_what_ids_look_like(tmp_path: Path) -> None:
    ids = Gallery("there", "p0")
    names = ["there", *(f"p{number % 4}.jpg" for number in range(100))]
    with pytest.raises(DatasetPictureNotFound) as caught:
        validate(dataset(tmp_path, names, ids), "cy", ids.known, some_ids=lambda: ["there", "p0"])
    refused = caught.value
    assert refused.detail == (
        "75 of 101 rows name pictures that are not in the gallery. Ids there look like `there`, `p0`: write them so. "
        "3 pictures missing, first: p1.jpg, p2.jpg, p3.jpg"
    )
    assert refused.extra["count"] == 3
    assert [place.location for place in refused.errors] == [f"line {n}" for n in (3, 4, 5, 7, 8, 9, 11, 12, 13, 15)]
    report = refused.extra["report"]
    assert isinstance(report, dict)
    fault = report["faults"].pop("picture_not_found")
    assert (fault["count"], fault["first_lines"], report["faults"]) == (75, [3, 4, 5, 7, 8], {})
    assert (report["usable"], report["pictures"], report["by_file"]) == (26, 2, 25)
