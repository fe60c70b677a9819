"""Words of a text: in every script, without case and accents, and nothing that a query language reads."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import MOST_BYTES, MOST_DOCUMENT_TERMS, MOST_QUERY_TERMS, extract_query_terms, index_terms

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
