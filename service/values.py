"""The kinds of values that requests hold, each with its bounds. Knows no request and no answer."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, Strict, StringConstraints
from pydantic_core import PydanticCustomError

from model import dataset

PICTURE_ID = f"^{dataset.PICTURE_ID}$"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*")
_DIGITS = re.compile(r"[0-9]{1,3}")
_NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")


def is_id(text: str) -> bool:
    """Whether `text` could be the id of an expansion or a key."""
    return _ID.fullmatch(text) is not None


def _digits(value: object) -> object:
    """A text of digits alone, or what is no text: int() would take signs, blanks and fractions too."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("int_parsing", "a number of one to three digits is expected")
    return value


def _number(value: object) -> object:
    """The same for a text of a decimal number."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise PydanticCustomError("float_parsing", "a decimal number is expected")
    return value


def _written(value: object) -> object:
    if not isinstance(value, str) or not _TIME.fullmatch(value):  # pydantic takes numbers as seconds since 1970
        raise PydanticCustomError("datetime_type", "a date and a time are expected, as in RFC 3339")
    return value


def _in_future(value: datetime) -> datetime:
    try:
        if value.tzinfo is None or value.astimezone(UTC) <= datetime.now(UTC):
            raise ValueError("a time zone, and a time to come, are needed")
    except OverflowError:
        raise ValueError("this is after the year 9999") from None
    return value


PictureId = Annotated[str, StringConstraints(pattern=PICTURE_ID)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=1, le=100)]
TextLimit = Annotated[Limit, BeforeValidator(_digits)]
TextNumber = Annotated[Finite, BeforeValidator(_number)]
Note = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]  # no controls
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Tags = Annotated[list[str], Field(min_length=1, max_length=200)]
Expiry = Annotated[datetime, Strict(False), BeforeValidator(_written), AfterValidator(_in_future)]
