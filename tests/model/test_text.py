"""Cleaning: what is refused, what is kept, and that it is idempotent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import clean
from store.errors import EmptyText, PictoglotError, TextInvalidUnicode, TextTooLong


@pytest.mark.parametrize("text", ["", "   ", "\u00a0\u3000", "\u200b\u200d\ufeff", "…!?", "\u202e"])
def test_text_without_content_is_empty(text: str) -> None:
    with pytest.raises(EmptyText):
        clean(text)


@pytest.mark.parametrize(
    "text", ["\ud800", "a\x00b", "\x07", "a\uffff", "\ufdd0x", "\x9f", "\U0001ffff", "\x85\x00", "\x1c"]
)
def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(TextInvalidUnicode):
        clean(text)


def test_what_is_dropped_leaves_composed_letters() -> None:
    assert clean("e\u202a\u0301") == clean(clean("e\u202a\u0301")) == "\u00e9"


@pytest.mark.parametrize("text", ["a" * 1_001, "a" * 1_000_000, "a " * 4_000])
def test_too_long_is_refused(text: str) -> None:
    with pytest.raises(TextTooLong):
        clean(text)


def test_the_limit_itself_passes() -> None:
    assert len(clean("a" * 1_000)) == 1_000


@pytest.mark.parametrize("text", ["می‌خواهم", "👨‍👩‍👧", "❤️", "क्‍ष", "<b>'; DROP", "{{7*7}}"])
def test_meaningful_characters_stay(text: str) -> None:
    assert clean(text) == text


def test_composed_white_space_and_controls() -> None:
    assert clean("  e\u0301\t\n a\u2067b\u2069 \ufeff") == "é ab"


@given(st.text())
def test_cleaning_is_idempotent_or_a_refusal(text: str) -> None:
    try:
        once = clean(text)
    except PictoglotError:
        return
    assert clean(once) == once
