"""Which rows of a dataset are held out, when those are too few, and what a refusal of a dataset says."""

import json
from hashlib import sha256

import pytest

from model.dataset import Dataset, join, select_proof_rows, select_taught_rows, validate
from model.dataset.rows import FAULTS, describe_fault, suggest_remedy
from model.dataset.tables import PAIR
from store.errors import DatasetInvalid, DatasetTooSmall, PivotNotServed
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
