"""Cleaning of queries and captions, and which texts are refused. Does not tokenise.

Zero-width joiners and variation selectors stay: they carry meaning in Persian, Hindi and emoji.
"""

import re
import unicodedata

from model.errors import EmptyText, TextInvalidUnicode, TextTooLong

MAX_CODE_POINTS = 1_000  # after cleaning; CLIP reads 77 tokens, so this is generous in every script
_DROPPED = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069]")  # byte order mark, bidi controls: invisible
_WHITE_SPACE = re.compile(r"\s+")
# Controls that are no white space, surrogates, and the code points that Unicode will never give a character
_FORBIDDEN = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_MEANINGFUL = frozenset("LNSM")  # Unicode categories of which a text needs at least one character


def clean(text: str) -> str:
    """`text` in NFC, without byte order marks and bidi controls, white space collapsed; idempotent.

    Raises `TextTooLong` (over 1,000 code points), `TextInvalidUnicode` (surrogates, NUL, other controls,
    non-characters) and `EmptyText` (no letter, number, symbol or mark).
    """
    if len(text) > 4 * MAX_CODE_POINTS:  # refuse before any work that grows with the input
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if _FORBIDDEN.search(text):
        raise TextInvalidUnicode("the text contains surrogates, control characters or non-characters")
    cleaned = _WHITE_SPACE.sub(" ", _DROPPED.sub("", unicodedata.normalize("NFC", text))).strip()
    if len(cleaned) > MAX_CODE_POINTS:
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if not any(unicodedata.category(character)[0] in _MEANINGFUL for character in cleaned):
        raise EmptyText("the text contains no letter, number or symbol")
    return cleaned
