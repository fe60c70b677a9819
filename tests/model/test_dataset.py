"""Formats, faults, split and refusals of datasets."""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from model.dataset import Dataset, read, tables, validate
from store.errors import (
    DatasetTooSmall,
    PictoglotError,
)

Item = dict[str, Any]


def items(count: int = 100) -> list[Item]:
    return [{"caption": f"afal coch {n}", "english": f"red apple {n}", "picture": f"p{n}"} for n in range(count)]


def jsonl(rows: Sequence[Item]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def delimited(rows: Sequence[Item], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_parquet(table: pyarrow.Table) -> bytes:
    pyarrow.parquet.write_table(table, sink := io.BytesIO(), compression="zstd")
    return sink.getvalue()


def parquet(rows: Sequence[Item]) -> bytes:
    return write_parquet(pyarrow.Table.from_pylist(list(rows)))


def as_parquet(**columns: Any) -> bytes:
    return write_parquet(pyarrow.table(columns))


def not_utf8() -> pyarrow.Array:
    """100 strings of one byte that is no UTF-8."""
    offsets = pyarrow.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(101)))
    return pyarrow.Array.from_buffers(pyarrow.string(), 100, [None, offsets, pyarrow.py_buffer(b"\xff" * 100)])


def repeated(bytes_each: int, rows: int) -> bytes:
    """A file of one kilobyte with the same long caption in every row."""
    same = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), ["a" * bytes_each])
    return as_parquet(caption=same, english=["x"] * rows)


def coco(rows: Sequence[Item]) -> bytes:
    annotations = [{"id": n, "image_id": row["picture"], "caption": row["caption"]} for n, row in enumerate(rows)]
    return json.dumps({"info": {}, "images": [], "annotations": annotations}, indent=1).encode()


def xm3600(rows: Sequence[Item]) -> bytes:
    return jsonl(
        [
            {
                "image/key": row["picture"],
                "image/locale": "ar",
                "cy": {"caption": [row["caption"]], "caption/tokenized": ["no"]},
                "iw": {"caption": ["תפוח אדום"]},
                "en": {"caption": [row["english"]]},
            }
            for row in rows
        ]
    )


def parallel(rows: Sequence[Item]) -> bytes:
    return "".join(f"{row['english']}\t{row['caption']}\n" for row in rows).encode()


class Reader:
    """Writes bytes to a file without a telling name and reads them as a dataset."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "upload"

    def __call__(self, data: bytes, language: str = "cy") -> Dataset:
        self.path.write_bytes(data)
        return read(self.path, language=language)

    def refusal(self, data: bytes, language: str = "cy") -> PictoglotError:
        with pytest.raises(PictoglotError) as caught:
            validate(self(data, language), language, set)
        return caught.value


FORMATS: dict[str, Callable[[Sequence[Item]], bytes]] = {
    "jsonl": jsonl,
    "csv": lambda rows: delimited(rows, ","),
    "tsv": lambda rows: delimited(rows, "\t"),
    "parquet": parquet,
    "coco": coco,
    "xm3600": xm3600,
    "parallel": parallel,
}
HAS_ENGLISH = {"jsonl", "csv", "tsv", "parquet", "parallel"}
HAS_PICTURE = {"jsonl", "csv", "tsv", "parquet", "coco", "xm3600"}


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_told_from_its_content_and_read_whole(
    reader: Reader, name: str, compress: Callable[[bytes], bytes]
) -> None:
    dataset = reader(compress(FORMATS[name](items())))
    assert dataset.report.format == name
    assert [row.caption for row in dataset.rows] == [item["caption"] for item in items()]
    assert all((row.english is not None) == (name in HAS_ENGLISH) for row in dataset.rows)
    assert all((row.picture is not None) == (name in HAS_PICTURE) for row in dataset.rows)
    assert 0 < dataset.report.val < 25
    if name in HAS_PICTURE:
        sides = {row.picture: row.split for row in dataset.rows}
        assert sides == {row.picture: row.split for row in reader(jsonl(items())).rows}, "the split is the same in all"


def test_texts_arrive_clean(reader: Reader) -> None:
    row = reader(jsonl([{"caption": " cafe\u0301\n  du ", "english": "\ufeffblack  coffee"}])).rows[0]
    assert (row.caption, row.english) == ("café du", "black coffee")


def test_a_quote_in_tab_separated_text_is_a_character(reader: Reader) -> None:
    assert reader(b'red "apple\t"afal" coch\n').rows[0].caption == '"afal" coch'


def test_a_quoted_csv_field_may_hold_commas_and_line_ends(reader: Reader) -> None:
    rows = reader(b'caption,english\n"afal, coch\niawn",red apple\nglas,blue\n').rows
    assert [(row.line, row.caption) for row in rows] == [(3, "afal, coch iawn"), (4, "glas")]


AFAL = b"".join(b"afal %d,apple %d\n" % (n, n) for n in range(1_000))


@pytest.mark.parametrize(
    ("below", "usable", "lines"),
    [
        (b'"ci,dog\n"cath",cat\nglas,blue\n', 1_001, 2),
        (b'"ci,dog\n' + AFAL.replace(b"afal", b"pren") + b'"cath",cat\nglas,blue\n', 1_001, 1_002),
        (b'"ci,dog\n' + AFAL.replace(b"afal", b"pren"), 1_000, 1_001),  # never closed
        (b'ci,"dog\n' + AFAL.replace(b"afal", b"pren") + b'cath"\nglas,blue\n', 1_001, 1),  # nobody can tell
    ],
)
def test_a_stray_quote_in_csv_spoils_lines_and_hides_none(
    reader: Reader, below: bytes, usable: int, lines: int
) -> None:
    report = reader(b"caption,english\n" + AFAL + below).report
    assert (report.usable, sum(fault.count for fault in report.faults.values())) == (usable, lines)
    assert next(iter(report.faults.values())).first_lines[0] in (1_002, 2_003)


@pytest.mark.parametrize("line", [b'"afal coch" , "red apple"\n', b'"afal" coch,"red apple"\n'])
def test_a_quote_that_ends_early_is_read_within_its_line(reader: Reader, line: bytes) -> None:
    (row,) = reader(b"caption,english\n" + line).rows
    assert (row.line, row.caption.split()[0], row.english and row.english.strip('" ')) == (2, "afal", "red apple")


def test_a_published_language_code_matches_its_canonical_tag(reader: Reader) -> None:
    assert reader(xm3600(items(3)), "he").rows[0].caption == "תפוח אדום"


def test_numbers_serve_as_picture_ids(reader: Reader) -> None:
    assert reader(coco([{"picture": 391895, "caption": "afal"}])).rows[0].picture == "391895"


def test_the_published_shape_of_coco_names_pictures_by_their_files(reader: Reader) -> None:
    document = {
        "info": {"description": "COCO 2014 Dataset", "year": 2014},
        "images": [
            {"license": 5, "file_name": "COCO_val2014_000000391895.jpg", "height": 360, "width": 640, "id": 391895},
            {"license": 3, "file_name": "val2014/tree.big.jpg", "height": 480, "width": 640, "id": 522418},
            {"id": 3, "file_name": 5},
            {"id": [4], "file_name": "a.jpg"},
            5,
        ],
        "licenses": [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 3, "name": "Attribution License"}],
        "annotations": [
            {"image_id": 391895, "id": 770337, "caption": "afal coch"},
            {"image_id": 522418, "id": 681330, "caption": "coeden fawr"},
            {"image_id": 3, "id": 681331, "caption": "dim enw"},
            {"image_id": 4, "id": 681332, "caption": "dim cofnod"},
        ],
    }
    pictures = [row.picture for row in reader(json.dumps(document).encode()).rows]
    assert pictures == ["COCO_val2014_000000391895", "tree.big", "3", "4"]


def test_a_repeated_row_is_kept_once_and_counted(reader: Reader) -> None:
    report = reader(jsonl(items() + items(30))).report
    assert (report.rows, report.usable, report.duplicates) == (130, 100, 30)


FAULTY_ROWS: list[tuple[str, bytes]] = [
    ("malformed_json", b"{"),
    ("malformed_json", b"[1]"),
    ("malformed_json", b"[" * 100_000),
    ("missing_caption", b'{"english": "a"}'),
    ("not_text", b'{"caption": 5, "english": "a"}'),
    ("empty_text", b'{"caption": "  ", "english": "a"}'),
    ("text_invalid_unicode", b'{"caption": "\\ud800", "english": "a"}'),
    ("text_too_long", b'{"caption": "' + b"a" * 1001 + b'", "english": "a"}'),
    ("english_empty_text", b'{"caption": "a", "english": "..."}'),
    ("missing_english_and_picture", b'{"caption": "a", "english": ""}'),
    ("picture_id_invalid", b'{"caption": "a", "picture": "../a"}'),
    ("picture_id_invalid", b'{"caption": "a", "picture": "a//b"}'),
    ("split_invalid", b'{"caption": "a", "picture": "a", "split": "test"}'),
    ("split_invalid", b'{"caption": "a", "picture": "a", "split": []}'),
]


@pytest.mark.parametrize(("kind", "line"), FAULTY_ROWS)
def test_a_faulty_row_is_told_by_kind_and_line(reader: Reader, kind: str, line: bytes) -> None:
    report = reader(jsonl(items(9)) + line + b"\n" + jsonl(items(12)[9:])).report
    assert {k: (f.count, f.first_lines) for k, f in report.faults.items()} == {kind: (1, (10,))}
    assert report.usable == 12


def test_a_few_faulty_rows_are_accepted(reader: Reader) -> None:
    dataset = reader(jsonl(items(90)) + b"{\n" * 10)
    assert validate(dataset, "cy", set).usable == 90


WHOLE_FILES: list[tuple[str, bytes]] = [
    ("no_rows", b""),
    ("no_rows", b"\n \n"),
    ("wrong_columns", b"text,translation\na,b\n"),
    ("wrong_columns", b"caption\ttag\na\tb\n"),
    ("wrong_columns", b"some prose, and more\n"),
    ("wrong_columns", b"caption,english,caption\na,b,c\n"),
    ("wrong_columns", parquet([{"text": "a"}])),
    ("wrong_columns", write_parquet(pyarrow.table([["a"], ["b"], ["c"]], names=["caption", "caption", "english"]))),
    ("wrong_columns", parquet([{"caption": ["a"], "english": "a"}])),
    ("not_utf8", as_parquet(caption=not_utf8(), english=["x"] * 100)),
    ("line_too_long", repeated(8 << 20, 256)),
    ("parquet_corrupt", as_parquet(caption=pyarrow.array([2**62] * 100, pyarrow.timestamp("us")), english=["x"] * 100)),
    ("not_utf8", jsonl(items()) + '{"caption": "é", "english": "e"}\n'.encode("latin-1")),
    ("mixed_line_endings", jsonl(items()).replace(b"\n", b"\r\n", 3)),
    ("mixed_line_endings", b"a\tb\rc\td\n"),
    ("line_too_long", jsonl(items()) + b'{"caption": "' + b"a" * 10_000_000 + b'"}\n'),
    ("line_too_long", gzip.compress(b'{"caption": "' + b"a" * 10_000_000)),
    ("gzip_corrupt", gzip.compress(jsonl(items()))[:-200]),
    ("parquet_corrupt", parquet(items())[:-20]),
    ("malformed_json", coco(items())[:-20]),
]


def has_no_codes(detail: str) -> bool:
    """Whether a sentence has no name of a fault, as programs have it; names of columns stand in backticks."""
    return re.search(r"[a-z]_[a-z]", re.sub("`[^`]*`", "", detail)) is None


def test_a_bursting_gzip_is_refused_early(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b"a\tb\n" + (b" " * 100_000 + b"\n") * 500)
    assert reader.refusal(bomb).extra["kind"] == "decompressed_too_large"
    monkeypatch.setattr(tables, "MAX_RATIO", 10_000)
    assert reader(bomb).report.rows == 1  # without the guard it is read to its end


def zipped(name: str) -> bytes:
    with zipfile.ZipFile(sink := io.BytesIO(), "w") as archive:
        archive.writestr(name, "x")
    return sink.getvalue()


def tarred(name: str) -> bytes:
    with tarfile.open(fileobj=(sink := io.BytesIO()), mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return sink.getvalue()


ARCHIVES = {
    "zip": zipped("../a.jsonl"),
    "tar": tarred("/abs"),
    "tar.gz": gzip.compress(tarred("/abs")),
    "gz.gz": gzip.compress(gzip.compress(b"a\tb\n")),
}


def test_fewer_than_64_usable_rows_are_too_few(reader: Reader) -> None:
    assert isinstance(reader.refusal(jsonl(items(63))), DatasetTooSmall)
    assert validate(reader(jsonl(items(64))), "cy", set).usable == 64


def test_a_file_of_duplicates_is_refused_with_their_first_lines(reader: Reader) -> None:
    error = reader.refusal(b"red\tcoch\n" * 100)
    assert [(fault.location, fault.code) for fault in error.errors] == [(f"line {n}", "duplicate") for n in range(2, 7)]


def test_the_report_tells_which_losses_will_run(reader: Reader) -> None:
    assert reader(parallel(items())).report.losses == ("cross_lingual",)
    assert reader(coco(items())).report.losses == ("cross_modal",)
    report = reader(jsonl([*items(), {"caption": "afal arall", "picture": "p0"}])).report
    assert report.losses == ("cross_lingual", "cross_modal")
    assert (report.with_english, report.pictures, report.captions_per_picture) == (100, 100, 1.01)
