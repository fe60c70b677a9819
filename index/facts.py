"""The values of tags and metadata: which are accepted, and the facts that a filter compares. Reads and writes no table.

A value is one or two facts: a text as it is written, a number as a double, a truth value, and of a text that is an RFC
3339 date also the moment.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from store.errors import FieldError, InvalidInput, MetadataInvalid

Kind = Literal["string", "number", "boolean", "date"]
TAGS = "#tags"  # in the place of a key; no metadata has this key
MOST_TAGS = 64
LONGEST_TAG = 200  # code points
MOST_BYTES = 16 << 10  # of metadata as compact JSON in UTF-8
LONGEST_INDEXED = 256  # code points of a text that is kept whole; PostgreSQL's indexes hold no long ones
_HASHED = "\x1f"  # how the hash of a long text begins: no tag and no metadata has this character
KEY = re.compile(r"[a-z0-9_]{1,64}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
# Controls but tab and line breaks, surrogates, and the two that end every plane: no database or JSON needs them
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Fact(NamedTuple):
    """A value to compare: `text` of a string, `number` of any other kind; a date is in seconds since 1970."""

    kind: Kind
    text: str | None = None
    number: float | None = None


def parse_instant(text: str) -> float | None:
    """Parse an RFC 3339 date, or date and time, to seconds since 1970; return None for any other text.

    A blank may be between date and time. A date alone is its midnight in UTC; a time without an offset, as cameras
    write it, is in UTC.
    """
    if not _DATE.fullmatch(text):
        return None
    fraction = re.search(r"\.\d+", text)
    whole = text if fraction is None else text.replace(fraction[0], fraction[0][:7], 1)
    try:
        read = datetime.fromisoformat(whole.upper())
    except ValueError:
        return None
    return (read.replace(tzinfo=read.tzinfo or UTC) - _EPOCH).total_seconds()


def find_moment(value: object) -> float | None:
    """Return the first date in a value of metadata, in seconds since 1970; None where there is none."""
    return next((fact.number for fact in list_facts(value) if fact.kind == "date"), None)


def normalize(text: str) -> str:
    """Return a text as it is compared: in NFC."""
    return unicodedata.normalize("NFC", text)


def hash_if_long(text: str) -> str:
    """Return a text as an index holds it: a long one as a hash that no accepted text can be equal to."""
    return text if len(text) <= LONGEST_INDEXED else f"{_HASHED}{sha256(text.encode()).hexdigest()}"


def is_hash(value: object) -> bool:
    """Whether an index holds only the hash of a long text here."""
    return isinstance(value, str) and value.startswith(_HASHED)


def list_facts(value: object) -> Iterator[Fact]:
    """List the facts of a value, or of each in a list."""
    if isinstance(value, bool):
        yield Fact("boolean", number=float(value))
    elif isinstance(value, int | float):
        yield Fact("number", number=float(value))
    elif isinstance(value, str):
        yield Fact("string", hash_if_long(value))
        if (moment := parse_instant(value)) is not None:
            yield Fact("date", number=moment)
    elif isinstance(value, list | tuple):
        yield from dict.fromkeys(fact for each in value for fact in list_facts(each))


def validate_tags(tags: Sequence[str]) -> list[str]:
    """Return tags in NFC, each once; raise `InvalidInput` for more than 64 or one that is empty, long or no text."""
    clean = list(dict.fromkeys(normalize(tag).strip() if _is_text(tag) else tag for tag in tags))
    faults = [
        FieldError(f"body.tags.{place}", "string_unicode" if not _is_text(tag) else "string_length")
        for place, tag in enumerate(clean)
        if not _is_text(tag) or not 0 < len(tag) <= LONGEST_TAG
    ]
    if faults:
        raise InvalidInput(f"a tag is a text of 1 to {LONGEST_TAG} characters without controls", errors=tuple(faults))
    if len(clean) > MOST_TAGS:
        place = FieldError("body.tags", "too_long")
        raise InvalidInput(f"a picture may have at most {MOST_TAGS} tags", errors=(place,))
    return clean


def validate_metadata(metadata: object) -> dict[str, Any]:
    """Return metadata in NFC, each list without repetitions; raise `MetadataInvalid` with the places of faults."""
    if not isinstance(metadata, Mapping):
        raise MetadataInvalid("metadata is a JSON object", errors=(FieldError("body.metadata", "dict_type"),))
    faults = [
        FieldError(f"body.metadata.{key if KEY.fullmatch(key) else '?'}", code)
        for key, value in metadata.items()
        if (code := _find_fault(key, value))
    ]
    if faults:
        raise MetadataInvalid(
            "a key is 1 to 64 of `a-z 0-9 _`, a value a string, a number, true, false or a list of strings",
            errors=tuple(faults),
        )
    metadata = {key: _normalize_value(value) for key, value in metadata.items()}
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > MOST_BYTES:
        place = FieldError("body.metadata", "too_long")
        raise MetadataInvalid(f"metadata may have at most {MOST_BYTES:,} bytes of JSON", errors=(place,))
    return metadata


def _find_fault(key: object, value: object) -> str | None:
    if not isinstance(key, str) or not KEY.fullmatch(key):
        return "key"
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return None if _is_finite(value) else "finite_number"
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        return "value_type"
    return None if all(map(_is_text, texts)) else "string_unicode"


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond every double
        return False


def _is_text(text: str) -> bool:
    return not FORBIDDEN.search(text)


def _normalize_value(value: Any) -> Any:
    if isinstance(value, list):
        return list(dict.fromkeys(map(normalize, value)))
    return normalize(value) if isinstance(value, str) else value
