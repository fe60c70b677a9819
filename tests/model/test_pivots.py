"""Captions that are paired with texts in another language than English."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from model.dataset import restrict, validate
from model.dataset.rows import Pivot
from store.errors import DatasetInvalid, NothingHeldOut, PivotNotServed, PivotTextEmpty
from tests.model.test_dataset import Item, Reader, delimited, jsonl, parquet


def items(count: int = 100, language: str = "de", **more: Any) -> list[Item]:
    return [
        {"caption": f"mail cotschen {n}", "pivot": {"language": language, "text": f"roter Apfel {n}"}, **more}
        for n in range(count)
    ]


def flat(rows: Sequence[Item]) -> list[Item]:
    """As a table has them: a pivot in two cells."""
    return [
        {
            **{name: value for name, value in row.items() if name != "pivot"},
            **{f"pivot_{name}": value for name, value in row["pivot"].items()},
        }
        for row in rows
    ]


def coco(rows: Sequence[Item]) -> bytes:
    return json.dumps({"annotations": list(rows)}).encode()


WRITTEN: dict[str, Callable[[Sequence[Item]], bytes]] = {
    "jsonl": jsonl,
    "jsonl of two cells": lambda rows: jsonl(flat(rows)),
    "csv": lambda rows: delimited(flat(rows), ","),
    "tsv": lambda rows: delimited(flat(rows), "\t"),
    "parquet": lambda rows: parquet(flat(rows)),
    "parquet of structures": parquet,
    "coco": coco,
    "coco of two cells": lambda rows: coco(flat(rows)),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_pivot_is_read_in_every_format_of_rows(reader: Reader, written: Callable[[Sequence[Item]], bytes]) -> None:
    dataset = reader(written(items(language="DE")))
    assert [row.pivot for row in dataset.rows] == [Pivot("de", f"roter Apfel {n}") for n in range(100)]
    assert all(row.english is None for row in dataset.rows)
    report = validate(dataset, "rm", set, {"de"}.__contains__)
    assert (report.pivots, report.with_english, report.losses) == ({"de": 100}, 0, ("cross_lingual",))


PLAIN = {"caption": "chaun", "english": "dog"}


@pytest.mark.parametrize(
    "data",
    [
        b"caption,english,pivot\nchaun,dog,Hund\n",
        b"caption\tenglish\tpivot\nchaun\tdog\tHund\n",
        parquet([{**PLAIN, "pivot": "Hund"}]),
        parquet([{**PLAIN, "pivot": ["de", "Hund"]}]),
        parquet([{**PLAIN, "pivot": {"language": "de", "texts": "Hund"}}]),
        parquet([{**PLAIN, "pivot": {"language": "de", "text": ["Hund"]}}]),
        jsonl([{"image/key": "p1", "rm": {"caption": ["chaun"]}, "pivot": {"language": "de", "text": "Hund"}}]),
        jsonl([{"image/key": "p1", "rm": {"caption": ["chaun"]}, "pivot_text": "Hund"}]),
    ],
)
def test_a_pivot_in_a_form_that_is_not_read_there_refuses_the_file(reader: Reader, data: bytes) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        reader(data)
    assert caught.value.extra["kind"] == "wrong_columns"


def test_a_text_in_a_structure_may_be_no_longer_than_another(reader: Reader) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        reader(parquet([{"caption": "chaun", "pivot": {"language": "de", "text": "a" * (1 << 21)}}]))
    assert caught.value.extra["kind"] == "line_too_long"


@pytest.mark.parametrize("written", [jsonl, parquet, coco])
@pytest.mark.parametrize(
    "absent",
    [
        {"pivot": {"language": None, "text": None}},
        {"pivot": {"language": "", "text": ""}},
        {"pivot_language": "", "pivot_text": ""},
        {"pivot_language": None, "pivot_text": None},
    ],
)
def test_a_pivot_of_nothing_is_none(reader: Reader, written: Callable[[Sequence[Item]], bytes], absent: Item) -> None:
    rows = reader(written([{**PLAIN, "pivot": None, **absent}, *items(1)])).rows
    assert [row.pivot for row in rows] == [Pivot("en", "dog"), Pivot("de", "roter Apfel 0")]


def test_english_as_a_pivot_is_the_column_english(reader: Reader) -> None:
    as_pivot = items(language="en")
    as_column = [{"caption": row["caption"], "english": row["pivot"]["text"]} for row in as_pivot]
    assert reader(jsonl(as_pivot)).rows == reader(jsonl(as_column)).rows


def test_pairs_with_several_languages_may_stand_in_one_file(reader: Reader) -> None:
    rows = items(60) + [{"caption": f"chaun {n}", "english": f"dog {n}"} for n in range(40)]
    assert reader(jsonl(rows)).report.pivots == {"de": 60, "en": 40}


def test_captions_of_one_text_stand_on_one_side_of_the_split(reader: Reader) -> None:
    rows = items() + [{**row, "caption": f"in {row['caption']}"} for row in items()]
    sides: dict[Pivot | None, set[str | None]] = {}
    for row in reader(jsonl(rows)).rows:
        sides.setdefault(row.pivot, set()).add(row.split)
    assert len(sides) == 100 and all(len(side) == 1 for side in sides.values())
    assert {"train", "val"} == set.union(*sides.values())


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"caption": "a", "pivot": "roter Apfel"}, "pivot_invalid"),
        ({"caption": "a", "pivot": {"text": "roter Apfel"}}, "pivot_invalid"),
        ({"caption": "a", "pivot": {"language": None, "text": "roter Apfel"}}, "pivot_invalid"),
        ({"caption": "a", "pivot": {}}, "pivot_invalid"),
        ({"caption": "a", "pivot": {"lang": None, "text": "roter Apfel"}}, "pivot_invalid"),
        ({"caption": "a", "pivot_text": "roter Apfel"}, "pivot_invalid"),
        ({"caption": "a", "pivot": {"language": "de", "text": "b"}, "pivot_text": "b"}, "pivot_invalid"),
        ({"caption": "a", "pivot": {"language": "german", "text": "x"}}, "pivot_language_tag_invalid"),
        ({"caption": "a", "pivot": {"language": "de", "text": 5}}, "pivot_not_text"),
        ({"caption": "a", "english": "b", "pivot": {"language": "de", "text": "c"}}, "english_and_pivot"),
    ],
)
def test_a_row_whose_pivot_cannot_be_read_is_counted_with_its_line(reader: Reader, row: Item, kind: str) -> None:
    faults = reader(jsonl([*items(), row])).report.faults
    assert {kind: (101,)} == {kind: fault.first_lines for kind, fault in faults.items()}


@pytest.mark.parametrize("pivot", [{"language": "de", "text": " "}, {"language": "de"}, {"language": "de", "text": ""}])
def test_a_single_pivot_without_a_text_refuses_the_file(reader: Reader, pivot: Item) -> None:
    with pytest.raises(PivotTextEmpty, match="1 row with a pivot without a text") as caught:
        validate(reader(jsonl([*items(), {"caption": "chaun", "pivot": pivot}])), "rm", set, {"de"}.__contains__)
    assert [place.location for place in caught.value.errors] == ["line 101"]


def test_a_pivot_language_that_is_not_served_is_named(reader: Reader) -> None:
    with pytest.raises(PivotNotServed, match="in de, which is not served") as caught:
        validate(reader(jsonl(items())), "rm", set)
    assert [(place.location, place.code) for place in caught.value.errors] == [("line 1", "pivot_not_served")]


def test_to_assess_one_side_of_the_split_is_enough_and_to_train_it_is_not(reader: Reader) -> None:
    held_out, learned_from = (reader(jsonl(items(split=split))) for split in ("val", "train"))
    assert validate(held_out, "rm", set, {"de"}.__contains__, to_train=False).val == 100
    with pytest.raises(DatasetInvalid, match="both splits"):
        validate(held_out, "rm", set, {"de"}.__contains__)
    with pytest.raises(NothingHeldOut, match="no row is held out"):
        validate(learned_from, "rm", set, {"de"}.__contains__, to_train=False)


def test_rows_that_are_alike_without_their_pictures_count_once_and_are_on_one_side(reader: Reader) -> None:
    pictured = [{**item, "picture": f"p{n}"} for n in range(4) for item in items()]
    found = reader(jsonl(pictured))
    alike = restrict(found, {"p0"})
    sides = {side: {row.pivot for row in alike.rows if row.split == side} for side in ("train", "val")}
    assert len({row.content_key for row in alike.rows}) == len(alike.rows) == alike.report.usable == 200
    assert alike.report.missing == 300 and restrict(found, {"p0", "p1", "p2", "p3"}) is found
    plain = {side: {row.pivot for row in alike.rows if row.split == side and not row.picture} for side in sides}
    assert not plain["train"] & plain["val"]


def test_a_row_is_kept_for_what_is_left_of_it(reader: Reader) -> None:
    dataset = reader(jsonl(items(picture="p1")))
    reports = [restrict(dataset, *which).report for which in ([{"p1"}], [()], [{"p1"}, ()], [(), ()], [(), {"de"}])]
    assert [(report.usable, report.with_picture, report.pivots) for report in reports] == [
        (100, 100, {"de": 100}), (100, 0, {"de": 100}), (100, 100, {}), (0, 0, {}), (100, 0, {"de": 100}),
    ]  # fmt: skip
