"""Dictionaries: what is taken of real-looking entries, what is left out and why, and faults."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.dataset import Dataset, read, validate
from model.dataset.rows import FAULTS, LEFT_OUT, describe_fault, suggest_remedy
from store.errors import DatasetInvalid, DatasetTooSmall, PictoglotError
from tests.model.spreadsheets import write_xlsx
from tests.model.test_dataset import has_no_codes

Item = dict[str, Any]
Reader = Callable[..., Dataset]


def make_entry(word: str, *glosses: str, **more: Any) -> Item:
    return {"word": word, "glosses": list(glosses), **more}


def write_lines(entries: Sequence[object]) -> bytes:
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in entries).encode()


@pytest.fixture
def read_entries(tmp_path: Path) -> Reader:
    def read_one(entries: Sequence[object] | bytes, language: str = "de", pivot: str = "en", **more: Any) -> Dataset:
        path = tmp_path / "upload"
        path.write_bytes(entries if isinstance(entries, bytes) else write_lines(entries))
        return read(path, language=language, pivot=pivot, **more)

    return read_one


def list_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    return [(row.caption, row.pivot.text) for row in dataset.rows if row.pivot is not None]


def list_reasons(dataset: Dataset) -> dict[str, int]:
    assert dataset.report.dictionary is not None
    return dataset.report.dictionary.left_out


HEADWORDS: list[tuple[str, str, list[str]]] = [
    ("de", "Hund, der", ["Hund"]),
    ("de", "(das) Haus /haʊs/", ["Haus"]),
    ("de", "Lehrer(in)", ["Lehrer"]),
    ("fr", "pomme [pɔm] <n, fem>", ["pomme"]),
    ("fi", "amerikkalainen jalkapallo", ["amerikkalainen jalkapallo"]),
    ("es", "color, colorado", ["color", "colorado"]),
    ("ru", "соба́ка", ["собака", "соба́ка"]),
    ("ru", "йод", ["йод"]),
    ("uk", "ї́жак", ["їжак", "ї́жак"]),
    ("ar", "كَلْبٌ", ["كلب"]),
    ("ar", "كـتاب", ["كتاب"]),
    ("ar", "الكلب الكبير", ["كلب كبير", "الكلب الكبير"]),
    ("fa", "الماس", ["الماس"]),
    ("he", "כֶּלֶב", ["כלב"]),
    ("el", "σκύλος (ο)", ["σκύλος"]),
    ("hi", "कुत्ता", ["कुत्ता"]),
    ("ja", "犬、いぬ", ["犬"]),
    ("ka", "ძაღლი", ["ძაღლი"]),
]


@pytest.mark.parametrize(("language", "word", "captions"), HEADWORDS)
def test_a_headword_is_taught_as_people_write_it(
    read_entries: Reader, language: str, word: str, captions: list[str]
) -> None:
    assert list_pairs(read_entries([make_entry(word, "dog")], language)) == [(caption, "dog") for caption in captions]


GLOSSES: list[tuple[list[str], list[str]]] = [
    (["to eat"], ["eat"]),
    (["1. a dog", "2. (slang) guy"], ["dog", "guy"]),
    (["hot (food), warm(ly)"], ["hot", "warm"]),
    (["cat; feline / pussy"], ["cat", "feline", "pussy"]),
    (["a kind of tree"], ["tree"]),
    (["any species of small bird native to Asia"], ["small bird"]),
    (["apparatus, device", "machine"], ["apparatus", "machine", "device"]),
    (["one", "two", "three", "four", "five", "six"], ["one", "two", "three"]),
    (["the sea", "The sea", "sea!"], ["sea"]),
    (["soft [of bread (fresh)] bun"], ["soft bun"]),
    (["bread (from the oven"], ["bread"]),
    (["a person who bakes", "baker"], ["baker"]),
    (["собака", "dog"], ["dog"]),
]


@pytest.mark.parametrize(("glosses", "equivalents"), GLOSSES)
def test_glosses_are_cut_to_equivalents_the_first_of_each_sense_before_their_second(
    read_entries: Reader, glosses: list[str], equivalents: list[str]
) -> None:
    assert [gloss for _, gloss in list_pairs(read_entries([make_entry("Wort", *glosses)]))] == equivalents


LEFT: list[tuple[Item, str]] = [
    (make_entry("Wort"), "no_gloss"),
    (make_entry("Wort", "(see there)", "слово", "…"), "no_gloss"),
    (make_entry("Wort", "that which is said by somebody to somebody"), "definition"),
    (make_entry("Wort", "a small, round thing"), "definition"),
    (make_entry("Wort", "someone who speaks"), "definition"),
    (make_entry("Wort", "relating to words"), "definition"),
    (make_entry("Wörter", "plural of Wort"), "grammar"),
    (make_entry("und", "and", pos="conj"), "grammar"),
    (make_entry("-heit", "ness"), "grammar"),
    (make_entry("(sich)", "self"), "grammar"),
    (make_entry("\u05b0 \u05b1", "shva"), "grammar"),  # vowel marks, which are left out of words
    (make_entry("eine lange Redensart aus sechs Wörtern", "saying"), "too_long"),
    (make_entry("Donaudampfschifffahrt" * 4, "navigation"), "too_long"),
    (make_entry("слово", "word"), "script"),
]


@pytest.mark.parametrize(("item", "reason"), LEFT)
def test_what_is_left_out_is_counted_under_a_reason(read_entries: Reader, item: Item, reason: str) -> None:
    found = read_entries([item, make_entry("Hund", "dog")])
    assert list_pairs(found) == [("Hund", "dog")]
    assert list_reasons(found) == {reason: 1}
    assert found.report.dump()["dictionary"]["reasons"] == {reason: LEFT_OUT[reason]}


def test_of_very_many_headwords_of_one_gloss_those_stay_whose_entries_name_it_first_and_alone(
    read_entries: Reader,
) -> None:
    rivals = [make_entry("Kläffer", "barker", "Dog"), make_entry("Dackel", "a kind of dog")]
    found = read_entries([*rivals, *(make_entry(f"Hund{n}", "dog") for n in range(49)), make_entry("Hund0", "dog")])
    named = [word for word, gloss in list_pairs(found) if gloss.lower() == "dog"]
    assert len(named) == 50 and "Kläffer" in named and "Dackel" not in named
    assert list_reasons(found) == {"common_gloss": 1, "repeated": 1}
    report = found.report.dictionary
    assert report is not None and (report.entries, report.taken) == (52, 50)


def test_forms_are_further_captions_of_the_same_gloss(read_entries: Reader) -> None:
    found = read_entries([make_entry("Hund", "dog", "hound", forms=["Hunde", "Hundes", "Hund", "пёс", "der"])])
    assert list_pairs(found) == [
        *((form, "dog") for form in ("Hund", "Hunde", "Hundes", "der")),
        *((form, "hound") for form in ("Hund", "Hunde", "Hundes", "der")),
    ]
    many = read_entries([make_entry("Hund", "dog", forms=[f"Hund{'e' * n}" for n in range(1, 40)])])
    assert len(many.rows) == 1 + 8


def test_a_headword_has_few_senses_however_many_entries_give_it(read_entries: Reader) -> None:
    found = read_entries([make_entry("Ding", f"thing {chr(97 + n)}") for n in range(20)])
    assert len(found.rows) == 3 and list_reasons(found) == {"repeated": 17}


def test_things_that_the_base_knows_come_first_and_in_place_of_other_meanings(
    read_entries: Reader, tmp_path: Path
) -> None:
    things = tmp_path / "things.gz"
    things.write_bytes(gzip.compress(b"bank note\nberry\nblackbird\nturkey cock"))
    entries = [
        make_entry("laufen", "run", "walk"),
        make_entry("Amsel", "singer", "Blackbird", "merle"),
        make_entry("Beere", "berries"),
        make_entry("Puter", "braggart", "turkey cock", "berry"),
    ]
    found = read_entries(entries, things=things)
    assert list_pairs(found) == [
        *(("Amsel", "Blackbird"), ("Beere", "berries"), ("Puter", "turkey cock"), ("Puter", "berry"), ("laufen", "run"))
    ]
    assert list_reasons(found) == {}
    assert len(read_entries(entries, "br", "fr", things=things).rows) == 9, "the list is of English words"


def test_as_much_is_taught_as_there_is_room(read_entries: Reader) -> None:
    many = [make_entry(f"w{n}", f"word {n}", f"thing {n}", f"name {n}", forms=["s"]) for n in range(13_336)]
    found = read_entries(many)
    assert len(found.rows) == 40_000 and list_reasons(found) == {"beyond_limit": 2}
    assert ("s", "word 0") not in list_pairs(found), "forms have what room is left"
    found = read_entries([make_entry("longer", "word 0", "thing 0", "name 0"), *many])
    assert list_reasons(found) == {"beyond_limit": 3} and "longer" not in {row.caption for row in found.rows}


def test_the_glosses_of_a_dictionary_may_be_in_another_language(read_entries: Reader) -> None:
    items = [make_entry("ki", "le chien", "to chien"), make_entry("bara", "хлеб", "pain")]
    found = read_entries(items, "br", "fr")
    assert [(row.caption, row.pivot) for row in found.rows] == [
        ("ki", ("fr", "le chien")),
        ("ki", ("fr", "to chien")),
        ("bara", ("fr", "pain")),
    ]
    assert found.report.pivots == {"fr": 3} and found.report.with_english == 0


def test_the_report_adds_up_and_the_pairs_of_one_gloss_are_on_one_side(read_entries: Reader) -> None:
    entries = [make_entry(f"wort{n}", f"word {n // 2}") for n in range(400)] + [make_entry("leer")]
    found = read_entries([*entries, "no entry", {"glosses": ["x"]}])
    report = validate(found, "de", set)
    chosen = report.dictionary
    assert chosen is not None
    assert (report.format, report.rows, report.usable, report.train + report.val) == ("dictionary", 403, 400, 400)
    faults = sum(fault.count for fault in report.faults.values())
    assert chosen.entries + faults == report.rows and chosen.taken + sum(chosen.left_out.values()) == chosen.entries
    assert len(chosen.examples) == 20 and chosen.examples[1] == {"word": "wort20", "gloss": "word 10"}
    sides = {row.pivot: {other.split for other in found.rows if other.pivot == row.pivot} for row in found.rows}
    assert all(len(side) == 1 for side in sides.values())
    assert 20 <= report.val <= 60


FAULTY: list[tuple[object, str]] = [
    ("Hund", "malformed_json"),
    ([["Hund", "dog"]], "malformed_json"),
    ({"glosses": ["dog"]}, "missing_word"),
    ({"word": 5, "glosses": ["dog"]}, "word_not_text"),
    ({"word": "…", "glosses": ["dog"]}, "word_empty_text"),
    ({"word": "a\0b", "glosses": ["dog"]}, "word_text_invalid_unicode"),
    ({"word": "Hund"}, "glosses_invalid"),
    ({"word": "Hund", "glosses": "dog"}, "glosses_invalid"),
    ({"word": "Hund", "glosses": [["dog"]]}, "glosses_invalid"),
    ({"word": "Hund", "glosses": ["dog"], "forms": {"pl": "Hunde"}}, "forms_invalid"),
    ({"word": "Hund", "glosses": ["dog"], "forms": [None]}, "forms_invalid"),
]


@pytest.mark.parametrize(("item", "kind"), FAULTY)
def test_an_entry_that_is_none_is_a_fault_with_its_line(read_entries: Reader, item: object, kind: str) -> None:
    found = read_entries([make_entry("Katze", "cat"), item])
    assert {name: fault.first_lines for name, fault in found.report.faults.items()} == {kind: (2,)}
    assert describe_fault(kind) in FAULTS.values()
    assert suggest_remedy(kind, "dictionary") != suggest_remedy("of no such kind", "dictionary")


def refuse(found: Dataset, language: str = "de") -> PictoglotError:
    with pytest.raises(PictoglotError) as caught:
        validate(found, language, set)
    assert has_no_codes(caught.value.detail)
    return caught.value


def test_one_gloss_for_everything_is_refused_with_the_reason(read_entries: Reader) -> None:
    refused = refuse(read_entries([make_entry(f"wort{n}", "apple") for n in range(500)]))
    assert isinstance(refused, DatasetTooSmall) and isinstance(report := refused.extra["report"], dict)
    assert f"450 {LEFT_OUT['common_gloss']}" in refused.detail
    assert report["dictionary"]["left_out"] == {"common_gloss": 450}


def test_a_word_list_may_be_a_spreadsheet_whose_first_row_names_the_columns_or_not(read_entries: Reader) -> None:
    rows = [[f"Wort{n}", f"thing {n}"] for n in range(70)]
    for head in ([], [["Deutsch", "English"]], [["word", "meaning"]]):
        found = read_entries(write_xlsx([*head, *rows]))
        assert list_pairs(found) == [(word, gloss) for word, gloss in rows] and not found.report.faults
    turned = [["English", "Deutsch"], *([gloss, word] for word, gloss in rows)]
    assert list_pairs(read_entries(write_xlsx(turned))) == [(word, gloss) for word, gloss in rows]
    with pytest.raises(DatasetInvalid, match="no row"):
        read_entries(write_xlsx([[" ", ""]]))


def test_bombs_of_glosses_and_forms_are_looked_at_in_part(read_entries: Reader) -> None:
    deep = "(" * 400 + "[" * 400
    bomb = make_entry("Hund" + deep * 100, "dog", *["x" * 9] * 20_000, deep, forms=["Hunde", deep] * 300)
    data = gzip.compress(write_lines([bomb, *(make_entry(f"wort{n}", deep) for n in range(5))]))
    assert ("Hund", "dog") in list_pairs(read_entries(data))
    senses = [
        make_entry("Hund" + ", der" * 8 + ", Hunde", "dog;" + "that which;" * 64),
        make_entry("Katze", ";" * 30, *["that which;" * 40, "cat"]),
    ]
    assert list_pairs(read_entries(senses)) == [("Hund", "dog")]
    words = [make_entry("dog", ";".join(f"wort{n}" for n in range(90)))]
    turned = read_entries(words, swap=True).report.dictionary
    assert turned is not None and turned.entries == 64
