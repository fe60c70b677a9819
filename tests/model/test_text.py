"""Cleaning: what is refused, what is kept, and that it is idempotent."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import (
    MOST_BYTES,
    MOST_DOCUMENT_TERMS,
    MOST_QUERY_TERMS,
    build_pattern,
    clean,
    extract_query_terms,
    find_standalone_words,
    index_terms,
)
from store.errors import PictoglotError


def test_what_is_dropped_leaves_composed_letters() -> None:
    assert clean("e\u202a\u0301") == clean(clean("e\u202a\u0301")) == "\u00e9"


def test_the_limit_itself_passes() -> None:
    assert len(clean("a" * 1_000)) == 1_000


def test_composed_white_space_and_controls() -> None:
    assert clean("  e\u0301\t\n a\u2067b\u2069 \ufeff") == "é ab"


@given(st.text())
def test_cleaning_is_idempotent_or_a_refusal(text: str) -> None:
    try:
        once = clean(text)
    except PictoglotError:
        return
    assert clean(once) == once


# --- Words of a text: in every script, without case and accents, and nothing that a query language reads ---


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def found(query: str, text: str) -> bool:
    """Whether every term of a query is in the document of a text."""
    return bool(extract_query_terms(query)) and {*extract_query_terms(query)} <= {*index_terms([text])[0].split(" ")}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("APFEL", "ein roter Äpfel"), ("zürich", "Zurich HB"), ("strasse", "Die Straße"), ("αθηναι", "Ἀθῆναι"),
        ("fine", "ﬁne"), ("猫", "黒猫がいる"), ("黒猫", "黒猫がいる"), ("ケース", "iPhoneケース"),
        ("사과", "사과를 먹다"), ("นก", "นกสีแดง"), ("می‌خواهم", "میخواهم"), ("हिन्दी", "हिन्दी में"),
        ("🍎", "an 🍎"), ("2024", "2024年"), ("p'isqu", "huk pʼisqu"), ("pʼisqu", "huk p’isqu"),
        ("pʻisqu", "huk p´isqu"), ('"fox" NEAR(dog', "near a fox and a dog"),
    ],
)  # fmt: skip
def test_a_text_is_found_by_its_words(query: str, text: str) -> None:
    assert found(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [("app", "apple"), ("猫黒", "黒猫"), ("黒白", "黒い白"), ("हि", "हिन्दी"), ("***", "*** a"), ("", "a")],
)
def test_and_by_nothing_else(query: str, text: str) -> None:
    assert not found(query, text)


@given(anything)
def test_terms_hold_nothing_that_a_query_reads_and_find_their_text(text: str) -> None:
    terms = extract_query_terms(text)
    assert all(re.fullmatch(r"[^\s\x00-\x2f\x3a-\x60\x7b-\x7f]{1,64}", term) for term in terms)
    assert len({*terms}) == len(terms) <= MOST_QUERY_TERMS
    stored, length = index_terms([text])
    assert stored.split(" ") == sorted({*stored.split(" ")}) and length == len(stored.split(" ")) * bool(stored)
    assert {*terms} <= {*stored.split(" ")}


def test_a_document_and_a_query_are_bounded() -> None:
    many = " ".join(f"word{number}" for number in range(MOST_DOCUMENT_TERMS + 500))
    assert index_terms([many, "more"])[1] == MOST_DOCUMENT_TERMS and len(extract_query_terms(many)) == MOST_QUERY_TERMS
    long = [f"{number:05}{'𐌰' * 59}" for number in range(5_000)]  # 241 bytes each
    terms, length = index_terms(long)
    assert terms.split() == long[:length]
    assert length == (MOST_BYTES + 1) // 242 and len(terms.encode()) == 242 * length - 1 <= MOST_BYTES
    assert max(map(len, extract_query_terms("x" * 1_000))) == 64 and found("x" * 1_000, "x" * 1_000)


# --- Words of unspaced scripts ---


def test_what_stands_alone_and_in_longer_runs_is_a_word_and_compounds_are_not() -> None:
    corpus = ["苹果", "汽车", "苹果和汽车", "香蕉、苹果", "香蕉和汽车和苹果"]
    assert set(find_standalone_words(corpus)) == {"汽车", "苹果", "香蕉"}


def test_sentences_are_no_words() -> None:
    """They stand alone too, but never inside others; their number must not grow with the corpus."""
    syllables = ["กา", "ขี", "คู", "แง", "โจ", "ไช", "ซำ", "ญะ", "ดี", "ตู", "ถา", "ทำ"]
    sentences = ["".join(syllables[(i * k + k * k) % 12] for k in range(3, 14)) + str(i) for i in range(3_000)]
    assert len(find_standalone_words(sentences)) <= 4_000
    distinct = [text for text in sentences if len(text) > 24]
    assert find_standalone_words(distinct) == ()


def test_the_order_does_not_depend_on_the_corpus_order() -> None:
    corpus = ["苹果", "汽车", "红色问号", "香蕉和汽车", "帆船和海和苹果"]
    assert find_standalone_words(corpus) == find_standalone_words(corpus[::-1])


def test_the_pattern_finds_the_longest_word() -> None:
    expression = re.compile(build_pattern(["苹果", "苹果汁", "汽车", "a.b"]))
    assert expression.findall("苹果汁和苹果a.b汽车axb") == ["苹果汁", "苹果", "a.b", "汽车"]


def test_thousands_of_words_cut_a_long_text_quickly() -> None:
    words = [chr(0x4E00 + i % 800) + chr(0x5E00 + i // 800) for i in range(4_000)]
    expression = re.compile(build_pattern(words))
    text = "".join(words[::9])[:1_000]
    started = time.process_time()
    assert len(expression.findall(text)) >= 400
    assert time.process_time() - started < 2.0  # about a millisecond
