"""What a refusal of a dataset says: what is wrong in words, what to do next, and no code among them."""

import json

import pytest

from model.dataset.explanations import FAULTS, PAIR, describe_fault, suggest_remedy
from tests.model.test_dataset import Reader, has_no_codes, items, jsonl, zipped

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
