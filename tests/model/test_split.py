"""Datasets: tables as spreadsheets write them, pictures that rows name, which rows are held out, and refusals."""

import gzip
import json
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from model.dataset import Dataset, join, read, select_proof_rows, select_taught_rows, validate
from model.dataset.rows import FAULTS, describe_fault, find_ids_of_files, suggest_remedy
from model.dataset.tables import PAIR
from store.errors import DatasetInvalid, DatasetPictureNotFound, DatasetTooSmall, PivotNotServed
from tests.model.spreadsheets import write_ods, write_xlsx
from tests.model.test_dataset import Item, Reader, has_no_codes, items, jsonl, zipped

AFAL = b"".join(b"afal %d,apple %d\n" % (n, n) for n in range(80))
TABLE = b"caption,english\n"
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "another key": (
        jsonl([{"quechua": "puka", "english": f"red {n}"} for n in range(100)]),
        "100 of 100 rows cannot be used, and at most 20% may be left out: 100 without a caption",
        f"under the key `caption`: `{PAIR}`",
    ),
    "blank cells": (
        TABLE + AFAL + b",x\n" * 40 + b"x,\n",
        "40 without a caption, 1 with neither",
        "the column `caption`",
    ),
    "a list": (json.dumps(items(80)).encode(), "a JSON list is not read", PAIR),
    "a list in lines": (json.dumps(items(80), indent=1).encode(), "a JSON list is not read", PAIR),
    "prose in lines": (b"{\n" + b"afal\n" * 80, "81 not one JSON object in a line", PAIR),
    "commas in texts": (
        TABLE + b"afal, coch,red\n" * 80,
        "80 with too few or too many cells",
        '`"roter, reifer Apfel",',
    ),
    "tabs in texts": (
        b"caption\tenglish\n" + b"a\tb\tc\n" * 80,
        "80 with too few or too many cells",
        "one tab between",
    ),
    "an open quote": (
        TABLE + AFAL + b'"ci,dog\n' + AFAL,
        "81 behind a quote that is not closed",
        '`"der ""rote"" Apfel"`',
    ),
    "repetitions": (TABLE + AFAL * 3, "160 of 240 rows repeat earlier ones, and at most 50% may", "keep each row once"),
    "other names": (
        TABLE.replace(b"caption,", b"welsh;other;") + AFAL,
        "the header must name `caption`",
        "caption;english",
    ),
    "a text document": (zipped("word/document.xml"), "text documents are not read", "and send that"),
    "an annotation that is a text": (
        json.dumps({"images": [], "annotations": ["afal"] * 40}).encode(),
        "40 not one JSON object",
        "Each annotation is an object",
    ),
    "few rows": (TABLE + AFAL[:200], "13 usable rows; at least 64 are needed", "add 51 or more"),
    "one side": (
        jsonl([{**item, "split": "train"} for item in items()]),
        "both splits",
        "leave out the column `split`",
    ),
}
ROWS: list[list[Any]] = [["english", "brezhoneg"], ["apple", "aval"], ["", ""], ["five, 5", 5.0], ["pear", "perenn"]]


def test_a_picture_never_stands_on_both_sides(reader: Reader) -> None:
    rows = [{"caption": f"afal {n}", "picture": f"p{n % 50}"} for n in range(500)]
    rows[7]["split"] = "val"
    sides: dict[str | None, set[str | None]] = {}
    for row in reader(jsonl(rows)).rows:
        sides.setdefault(row.picture, set()).add(row.split)
    assert len(sides) == 50
    assert all(len(side) == 1 for side in sides.values())
    assert sides["p7"] == {"val"}


def test_a_picture_that_the_file_puts_on_both_sides_is_a_fault_of_the_later_row(reader: Reader) -> None:
    rows = [{**item, "split": "train"} for item in items()] + [{"caption": "arall", "picture": "p3", "split": "val"}]
    assert reader(jsonl(rows)).report.faults["split_conflict"].first_lines == (101,)


def held_out(dataset: Dataset) -> set[str | None]:
    return {row.picture for row in dataset.rows if row.split == "val"}


@pytest.mark.parametrize(("pictures", "expected"), [(2, 1), (4, 2), (8, 4), (12, 5), (30, 5)])
def test_a_dataset_of_few_pictures_holds_up_to_five_out_and_learns_from_half(
    reader: Reader, pictures: int, expected: int
) -> None:
    dataset = reader(jsonl([{"caption": f"afal {n}", "picture": f"p{n % pictures}"} for n in range(240)]))
    assert len(held_out(dataset)) == expected
    assert dataset.report.train >= dataset.report.val


def test_a_picture_of_most_rows_is_learned_from(reader: Reader) -> None:
    """By hash p6 comes third."""
    rows = [{"caption": f"afal {n}", "picture": f"p{n if n < 11 else 6}"} for n in range(71)]
    assert held_out(reader(jsonl(rows))) == {"p8", "p10", "p2", "p9", "p1"}


def test_where_a_tenth_is_enough_nothing_more_is_held_out(reader: Reader) -> None:
    def tenth(name: str) -> bool:
        return int.from_bytes(sha256(f"picture {name}".encode()).digest()[:8]) % 10 == 0

    rows = items(60)
    expected = {row["picture"] for row in rows if tenth(row["picture"])}
    assert len(expected) >= 5
    assert held_out(reader(jsonl(rows))) == expected


ONE_PICTURE = [{"caption": f"afal {n}", "picture": f"p{n % 2}", "english": f"apple {n % 2}"} for n in range(64)]


NAMED = [{**item, "split": "val" if n == 7 else "train"} for n, item in enumerate(items())]


# most held-out captions are of one picture, and those beside another text are not ranked
MIXED = [{**item, "split": "val" if n < 6 else "train"} for n, item in enumerate(items())]


MIXED[:4] = [{**row, "picture": "p0"} for row in MIXED[:4]]


MIXED[4:6] = [{**row, "picture": None} for row in MIXED[4:6]]


@pytest.mark.parametrize("rows", [ONE_PICTURE, NAMED, MIXED], ids=["two pictures", "named", "mixed"])
def test_a_dataset_that_holds_out_one_picture_is_refused_before_it_is_learned(reader: Reader, rows: list[Item]) -> None:
    error = reader.refusal(jsonl(rows))
    assert isinstance(error, DatasetTooSmall)
    assert error.detail.startswith("all held-out captions are of one picture; at least 2 are needed")
    assert error.extra["report"]["val"] > 0  # type: ignore[index]
    dataset = reader(jsonl(rows))
    assert validate(dataset, "cy", set, to_train=False) == validate(dataset, "cy", set, was_trained_on=True)


def test_held_out_captions_of_one_text_are_refused_too(reader: Reader) -> None:
    rows = [{"caption": f"afal {n}", "english": f"apple {n % 2}"} for n in range(64)]
    assert reader.refusal(jsonl(rows)).detail.startswith("all held-out captions are of one text; ")


@pytest.mark.parametrize(
    ("same", "what"),
    [({"picture": "p1"}, "one picture"), ({"english": "apple"}, "one text")],
)
def test_captions_that_are_all_of_one_are_refused_for_that(reader: Reader, same: Item, what: str) -> None:
    """Nothing can be held out of them. Texts in a language that is not served are reported first."""
    rows = [{"caption": f"afal {n}", **same} for n in range(64)]
    error = reader.refusal(jsonl(rows))
    assert isinstance(error, DatasetTooSmall) and error.detail.startswith(f"all captions are of {what}; at least 2 are")
    with pytest.raises(DatasetInvalid, match="both splits"):
        validate(reader(jsonl(rows)), "cy", set, was_trained_on=True)
    german = [{"caption": f"afal {n}", "pivot": {"language": "de", "text": "Apfel"}} for n in range(64)]
    assert isinstance(reader.refusal(jsonl(german)), PivotNotServed)


def test_what_is_held_out_is_taught_in_the_end_but_for_what_the_file_itself_holds_out(reader: Reader) -> None:
    rows = items()
    rows[7]["split"] = "val"
    dataset = reader(jsonl(rows))
    assert {row.picture for row in dataset.rows} - {row.picture for row in select_taught_rows(dataset.rows)} == {"p7"}
    assert held_out(dataset) > {"p7"} and dataset.report.taught == 99
    again = join([dataset, reader(jsonl(items()))])
    assert "p7" not in {row.picture for row in select_taught_rows(again.rows)}, "nor by a file that has it"
    assert again.report.taught == 99


def test_a_caption_that_is_held_out_proves_nothing_elsewhere_and_is_taught_all_the_same(reader: Reader) -> None:
    rows = [{"caption": f"afal {n % 50}", "picture": f"p{n}"} for n in range(100)]  # each of two pictures
    dataset = reader(jsonl(rows))
    proof, measured = select_proof_rows(dataset.rows), [row for row in dataset.rows if row.split == "val"]
    assert {row.caption for row in proof}.isdisjoint(row.caption for row in measured)
    assert len(proof) < dataset.report.train == 100 - len(measured)
    assert len(select_taught_rows(dataset.rows)) == 100


def test_texts_that_differ_in_case_alone_are_on_one_side_and_stay_as_they_are_written(reader: Reader) -> None:
    rows = [{"caption": f"hund {n}", "english": f"a dog {n}"} for n in range(100)]
    dataset = reader(jsonl([*rows, *({"caption": f"Hund {n}!", "english": f"A dog {n}"} for n in range(100))]))
    sides = [{row.english for row in dataset.rows if row.split == side} for side in ("train", "val")]
    assert {text.lower() for text in sides[0] if text}.isdisjoint(text.lower() for text in sides[1] if text)
    assert sides[1] >= {f"{a} dog {n}" for a in "aA" for n in (int(text[6:]) for text in sides[1] if text)}
    assert {row.english for row in reader(jsonl(rows)).rows if row.split == "val"} <= sides[1], "as without the others"
    marked = [{"caption": "Hund 7", "picture": "p7", "split": "val"}]
    proof = select_proof_rows(reader(jsonl([*({**row, "split": "train"} for row in rows), *marked])).rows)
    assert "hund 7" not in {row.caption for row in proof} and len(proof) >= 99


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_is_wrong_and_what_to_do(reader: Reader, case: str) -> None:
    data, wrong, to_do = REFUSED[case]
    detail = reader.refusal(data).detail
    assert wrong in detail and to_do in detail[detail.index(wrong) :]
    assert has_no_codes(detail) and not detail.endswith(".")


def kinds() -> list[str]:
    texts = ("not_text", "empty_text", "text_too_long", "text_invalid_unicode")
    return [*(kind for kind in FAULTS), *(f"{of}_{kind}" for of in ("english", "pivot") for kind in texts)]


@pytest.mark.parametrize("kind", [*kinds(), "pivot_language_tag_invalid"])
def test_every_fault_of_a_row_has_words_and_what_to_do(kind: str) -> None:
    if kind != "picture_not_found":  # it refuses a dataset by itself, with the pictures
        assert suggest_remedy(kind, "csv") != suggest_remedy("of no such kind", "csv")
    assert describe_fault(kind) in FAULTS.values()


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
    "blanks": (write_xlsx([[" ", ""]]), "no_rows"),
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
