"""The nearest known word of a mistyped one, against a slow and obvious search; and forms of words."""

import pytest

from model.lexicon import NO_WORDS, Lexicon, Speller, collect_words

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


def test_a_word_of_too_many_letters_is_not_looked_at() -> None:
    known = Speller(["ab" * 32 + "a", "ab" * 33])
    assert known.suggest("ab" * 32) and not known.suggest("ab" * 32 + "ac")


# --- Unknown words of a text are read by known ones, or left out and named ---


SWEDISH = Lexicon(collect_words(["en groda", "Trana", "korp", "hav", "strand", "fågel", "stad", "park"]))


def is_known(word: str) -> bool:
    return word == "albino"


@pytest.mark.parametrize(
    ("text", "read", "unknown"),
    [
        ("En groda!", "En groda!", ()),
        ("Stadspark", "stad park", ()),  # joined by an s
        ("fågelpark", "fågel park", ()),
        ("Korpar", "korp", ()),  # another form of it
        ("en krontrana", "en trana", ()),  # its head
        ("Parkbänken", "park", ()),  # what it begins with
        ("en albino groda", "en albino groda", ()),  # English that the base knows
        ("en xylofon, en groda", "en , en groda", ("xylofon",)),
        ("xylofon", "xylofon", ("xylofon",)),  # nothing would be left
        ("groda 7", "groda 7", ()),
    ],
)
def test_an_unknown_word_is_read_by_known_ones_or_left_out(text: str, read: str, unknown: tuple[str, ...]) -> None:
    found = SWEDISH.read(text, is_known)
    assert (found.text, found.unknown) == (read, unknown)


def test_of_forms_the_one_with_the_longest_common_beginning_is_read() -> None:
    russian = Lexicon(collect_words(["яблоко", "яблоня", "кошка", "кот"]))
    assert russian.read("яблоки", is_known).text == "яблоко"
    assert russian.read("Кошками", is_known).text == "кошка"
    assert russian.read("коту кошка", is_known).unknown == ("коту",)  # three letters in common are too few


@pytest.mark.parametrize(
    ("known", "text", "read"),
    [
        (["σκύλος", "γάτα"], "Σκυλος γατα", "σκύλος γάτα"),
        (["ёлка", "молоко", "étoile"], "елка молоко́ etoile", "ёлка молоко étoile"),
        (["رمان"], "رُمَّان", "رمان"),
        (["काम"], "कम", "कम"),  # there marks are vowels
        (["كلب", "قطة", "بحر"], "والكلب بالبحر للقطة", "كلب بحر قطة"),  # and the dog, in the sea, to the cat
        (["כלב", "ים"], "והכלב הים", "כלב"),  # two letters are too few
    ],
)
def test_marks_may_be_missing_and_what_is_written_in_one_with_the_next_word_is_taken_off(
    known: list[str], text: str, read: str
) -> None:
    assert Lexicon(collect_words(known)).read(text, is_known).text == read


def test_scripts_without_spaces_and_texts_without_a_lexicon_stay() -> None:
    chinese = Lexicon(collect_words(["苹果", "red apple"]))
    assert chinese.words == ("apple", "red")
    assert chinese.read("绿苹果", is_known).text == "绿苹果"
    assert NO_WORDS.read("anything at all", is_known).text == "anything at all"


def test_a_word_of_a_thousand_letters_takes_no_time() -> None:
    assert SWEDISH.read("ab" * 500, is_known).unknown == ("ab" * 500,)
