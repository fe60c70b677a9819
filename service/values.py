"""The types of values in requests, each with its bounds. Knows no request and no answer."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Literal, LiteralString

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from model import text
from store.errors import InvalidInput

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*")
_DIGITS = re.compile(r"[0-9]{1,18}")
_INTEGER = re.compile(r"-?[0-9]{1,99}")
_NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")
HASH_LENGTH = 16  # characters of a content's hash in the URL of its file
MAX_INTEGER = (1 << 31) - 1  # of an INTEGER column


def is_id(id: str) -> bool:
    """Tell whether it could be the id of an expansion or a key."""
    return _ID.fullmatch(id) is not None


def _check_picture_id(value: str) -> str:
    try:
        return text.clean_picture_id(value)
    except InvalidInput as error:
        raise PydanticCustomError("picture_id", "{reason}", {"reason": error.detail}) from None


def _check_collection(value: str) -> str:
    try:
        return text.clean_name(value)
    except InvalidInput as error:
        raise PydanticCustomError("collection_name", "{reason}", {"reason": error.detail}) from None


def _require_form(pattern: re.Pattern[str], code: LiteralString, message: LiteralString) -> BeforeValidator:
    """Refuse other text: int() and float() would accept blanks and underscores too."""

    def refuse(value: object) -> object:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise PydanticCustomError(code, message)
        return value

    return BeforeValidator(refuse)


def _require_time(value: object) -> object:
    if not isinstance(value, str) or not _TIME.fullmatch(value):  # pydantic takes numbers as seconds since 1970
        raise PydanticCustomError("datetime_type", "must be a date and time as in RFC 3339")
    return value


def _require_future(value: datetime) -> datetime:
    try:
        if value.tzinfo is None or value.astimezone(UTC) <= datetime.now(UTC):
            raise ValueError("must be in the future, with a time zone")
    except OverflowError:
        raise ValueError("must be before the year 10000") from None
    return value


def split_list(texts: object, *, commas: bool = True) -> object:
    """Split a list in a form or a query: one JSON list, or repeated; `commas` may separate the items too."""
    if not isinstance(texts, list):
        return texts
    if len(texts) == 1 and str(texts[0]).startswith("["):
        try:
            return json.loads(texts[0])
        except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
            return texts[0] if commas else texts  # a tag may be `[draft]`
    return [item.strip() for text in texts for item in str(text).split(",")] if commas else texts


def parse_number(text: str) -> float | str:
    """Parse the number in a field of a form; what is none stays a text, which the model refuses."""
    return int(text) if _DIGITS.fullmatch(text) else float(text) if _NUMBER.fullmatch(text) else text


def _drop_duplicates(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _join_faults(value: object, inner: ValidatorFunctionWrapHandler) -> object:
    """Report one fault for all kinds of values that are possible here, in place of one for each."""
    try:
        return inner(value)
    except ValidationError:
        raise PydanticCustomError("languages", "this must be `all`, `none` or a list of tags, 200 at most") from None


PictureId = Annotated[str, Field(min_length=1, max_length=text.MAX_ID_BYTES), AfterValidator(_check_picture_id)]
Collection = Annotated[str, Field(min_length=1, max_length=text.MAX_NAME), AfterValidator(_check_collection)]
Collections = Annotated[list[Collection], Field(min_length=1, max_length=64), AfterValidator(_drop_duplicates)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=1, le=100)]
TextLimit = Annotated[Limit, _require_form(_DIGITS, "int_parsing", "must be a whole number")]
TextNumber = Annotated[Finite, _require_form(_NUMBER, "float_parsing", "must be a decimal number")]
Note = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]  # no controls
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Expected = Annotated[
    int | None, Field(ge=0, lt=1 << 31, description="The release you have seen; 409 if another serves.")
]
IdempotencyHeader = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]
PathNumber = Annotated[int, Path(), _require_form(_INTEGER, "int_parsing", "must be a whole number")]
QueryLimit = Annotated[TextLimit, Query()]
QueryCount = Annotated[
    int, Field(ge=1, le=1_000), _require_form(_DIGITS, "int_parsing", "must be a whole number"), Query()
]
QueryCursor = Annotated[Cursor | None, Query()]
QueryPerson = Annotated[str, Query(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
QueryExact = Annotated[str, Query(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
QueryFlag = Annotated[Literal["true", "false"], Query()]
QueryName = Annotated[str, Query(min_length=1, max_length=100)]
QueryCollection = Annotated[Collection | None, Query()]
QueryFilter = Annotated[str | None, Query(description="JSON: `must`, `should`, `must_not` as in searches.")]
QuerySort = Annotated[Literal["created_at", "-created_at", "shown_at", "-shown_at"], Query()]
Tags = Annotated[list[str], Field(min_length=1, max_length=200)]
FacetKeys = Annotated[list[Annotated[str, StringConstraints(max_length=128)]], Field(min_length=1, max_length=8)]
QueryFacets = Annotated[
    FacetKeys | None,
    Query(description="Keys whose values are counted, separated by commas."),
    BeforeValidator(split_list),
]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The `ETag` that was seen.")]
CaptionLanguages = Annotated[Tags | Literal["all", "none"], WrapValidator(_join_faults)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=256)]
OneOrMore = Annotated[
    _Texts,
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | _Texts),
]
Expiry = Annotated[datetime, Strict(False), BeforeValidator(_require_time), AfterValidator(_require_future)]
