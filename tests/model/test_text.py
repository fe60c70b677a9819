"""Cleaning: what is refused, what is kept, and that it is idempotent."""

from hypothesis import given
from hypothesis import strategies as st

from model.text import clean
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
