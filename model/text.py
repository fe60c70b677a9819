"""What a text may be: cleaning of queries and captions before any tokenizer sees them. Does not tokenise.

Zero-width joiners and variation selectors stay: they carry meaning in Persian, Hindi and emoji.
"""

import re
import unicodedata

from model.errors import EmptyText, TextInvalidUnicode, TextTooLong

MAX_CODE_POINTS = 1_000  # after cleaning; CLIP reads 77 tokens, so this is generous in every script
_DROPPED = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069]")  # byte order mark, bidi controls: invisible, order only
_WHITE_SPACE = re.compile(r"\s+")
_NON_CHARACTER = re.compile("[\ufdd0-\ufdef]")
_MEANINGFUL = (
    "L",
    "N",
    "S",
    "M",
)  # Unicode categories of which a text needs at least one character besides punctuation


def clean(text: str) -> str:
    """`text` in NFC, without byte order marks and bidi controls, white space collapsed; idempotent.

    Raises `TextTooLong` (over 1,000 code points), `TextInvalidUnicode` (surrogates, NUL, other controls,
    non-characters) and `EmptyText` (no letter, number, symbol or mark).
    """
    if len(text) > 4 * MAX_CODE_POINTS:  # refuse before any work that grows with the input
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if _invalid(text):
        raise TextInvalidUnicode("the text holds surrogates, control characters or non-characters")
    cleaned = _WHITE_SPACE.sub(" ", _DROPPED.sub("", unicodedata.normalize("NFC", text))).strip()
    if len(cleaned) > MAX_CODE_POINTS:
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if not any(unicodedata.category(character)[0] in _MEANINGFUL for character in cleaned):
        raise EmptyText("the text holds no letter, number or symbol")
    return cleaned


def _invalid(text: str) -> bool:
    for character in text:
        code = ord(character)
        if code < 0x20:
            if character not in "\t\n\r\f\v":
                return True
        elif 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE:
            return character != "\x85"  # NEL is white space
    return _NON_CHARACTER.search(text) is not None
