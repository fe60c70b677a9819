"""Cleaning of queries and captions, and which texts and ids are refused. Does not tokenise.

Zero-width joiners and variation selectors stay: they carry meaning in Persian, Hindi and emoji.
"""

import re
import unicodedata

from store.errors import EmptyText, InvalidInput, TextInvalidUnicode, TextTooLong

MAX_ID_BYTES = 1_024  # of a picture's id: a path, and still an entry of a PostgreSQL index together with its collection
MAX_NAME = 128  # code points
MAX_CODE_POINTS = 1_000  # after cleaning; CLIP reads 77 tokens, so this is generous in every script
_DROPPED = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069]")  # byte order mark, bidi controls: invisible
_WHITE_SPACE = re.compile(r"\s+")
# Controls that are no white space, surrogates, and the code points that Unicode will never give a character
_FORBIDDEN = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
# Line breaks, byte order mark, what embeds a direction, and what stands for bytes that are no UTF-8
_NOT_IN_ID = re.compile("[\t-\r\x85\u2028-\u202e\u2066-\u2069\ufeff\ufffd]")
_MEANINGFUL = frozenset("LNSM")  # Unicode categories of which a text needs at least one character


def clean(text: str) -> str:
    """Return `text` in NFC, without byte order marks and bidi controls, white space collapsed; idempotent.

    Raises `TextTooLong`, `TextInvalidUnicode`, and `EmptyText` without a letter, number, symbol or mark.
    """
    if len(text) > 4 * MAX_CODE_POINTS:  # refuse before any work that grows with the input
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if _FORBIDDEN.search(text):
        raise TextInvalidUnicode("the text contains surrogates, control characters or non-characters")
    cleaned = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", _DROPPED.sub("", text))).strip()
    if len(cleaned) > MAX_CODE_POINTS:
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if not any(unicodedata.category(character)[0] in _MEANINGFUL for character in cleaned):
        raise EmptyText("the text contains no letter, number or symbol")
    return cleaned


def clean_name(text: str) -> str:
    """Return `text` in NFC as a name that people give, white space collapsed; idempotent. Raises `InvalidInput`."""
    if any(forbidden.search(text) for forbidden in (_FORBIDDEN, _NOT_IN_ID)):
        raise InvalidInput("a name has no control characters")
    name = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidInput(f"a name has 1 to {MAX_NAME} characters")
    return name


def clean_picture_id(text: str) -> str:
    """Return `text` in NFC as the id of a picture, like a relative path; idempotent. Raises `InvalidInput`."""
    if any(forbidden.search(text) for forbidden in (_FORBIDDEN, _NOT_IN_ID)):
        raise InvalidInput("an id has no control characters")
    id = unicodedata.normalize("NFC", text)
    if not 0 < len(id.encode()) <= MAX_ID_BYTES:
        raise InvalidInput(f"an id has 1 to {MAX_ID_BYTES:,} bytes in UTF-8")
    if id.startswith("."):
        raise InvalidInput("an id has no dot first")
    if not {"", ".", ".."}.isdisjoint(id.split("/")):
        raise InvalidInput("an id has no part between slashes that is empty, `.` or `..`")
    return id
