"""Tables of captions as spreadsheets write them: the header tells what stands between the cells."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from store.errors import DatasetInvalid
from tests.model.spreadsheets import write_ods, write_xlsx
from tests.model.test_dataset import Reader, zipped

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
