"""The nearest known word of a mistyped one, against a slow and obvious search; and forms of words."""

from random import Random

import pytest

from model.spelling import Speller, count_mistakes
from model.text import find_forms, has_stemmer

WORDS = ["apple", "apples", "maple", "giraffe", "house", "mouse", "horse", "two", "cat", "Äpfel", "sailboat"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("aple", ["apple", "maple"]), ("appel", ["apple"]), ("girafe", ["giraffe"]), ("giarffe", ["giraffe"]),
        ("sialbaot", ["sailboat"]), ("hosue", ["house"]), ("cet", ["cat"]), ("dog", []), ("apple", ["apples"]),
        ("xyz", []),
    ],
)  # fmt: skip
def test_a_mistyped_word_has_the_nearest_known_ones(typed: str, meant: list[str]) -> None:
    found = Speller(WORDS).suggest(typed)
    assert found[: len(meant)] == meant and (meant or not found)


def test_mistakes_are_counted_as_by_trying_each() -> None:
    random = Random(0)

    def change(word: str) -> str:
        at, letter = random.randrange(len(word)), random.choice("abc")
        swapped = word[:at] + word[at : at + 2][::-1] + word[at + 2 :]
        return random.choice([word[:at] + word[at + 1 :], word[:at] + letter + word[at:], swapped]) or "a"

    for _ in range(200):
        word = "".join(random.choice("abc") for _ in range(6))
        once = change(word)
        assert count_mistakes(word, once) == (word != once) == count_mistakes(once, word)
    assert count_mistakes("kitten", "sitting") == 3


def test_a_word_of_too_many_letters_is_not_looked_at() -> None:
    known = Speller(["ab" * 32 + "a", "ab" * 33])
    assert known.suggest("ab" * 32) and not known.suggest("ab" * 32 + "ac")


def test_a_form_is_found_behind_many_words_of_a_like_beginning() -> None:
    many = [f"app{first}{second}" for first in "abcdefghijk" for second in "abcdefghijklmnopqrstuvwxyzäöü"]
    assert find_forms("apple", sorted([*many, "apples"]), ["en"]) == ["apples"]


@pytest.mark.parametrize(
    ("word", "language", "forms"),
    [
        ("apple", "en", ["apples"]), ("berries", "en", ["berry"]), ("running", "en", ["run", "runs"]),
        ("hausern", "de", ["hauser"]), ("brezhoneg", "br", ["brezhonega"]), ("run", "xx", []), ("ap", "en", []),
        ("19", "en", []),
    ],
)  # fmt: skip
def test_forms_are_told_by_stems_or_by_beginnings(word: str, language: str, forms: list[str]) -> None:
    known = sorted(["apples", "applause", "berry", "beryl", "run", "runs", "hauser", "brezhonega", "brezel", "ape"])
    assert find_forms(word, known, [language]) == forms
    assert has_stemmer(language) == (language in ("en", "de"))
