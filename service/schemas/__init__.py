"""What all schemas share, and the types of values, each with its bounds.

Strict: unknown fields, wrong types, NaN and infinity are refused.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, LiteralString

from fastapi import Header, Path, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from index.ranking import SampledRecall
from model import text
from store.errors import InvalidInput

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}.*")
_DIGITS = re.compile(r"[0-9]{1,18}")
_INTEGER = re.compile(r"-?[0-9]{1,99}")
_NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?([eE]-?[0-9]{1,3})?")
HASH_LENGTH = 16  # characters of a content's hash in the URL of its file
MAX_INTEGER = (1 << 31) - 1  # of an INTEGER column
Captions = dict[str, list[str]]
Report = dict[str, Any]


def is_id(id: str) -> bool:
    """Tell whether it could be the id of an expansion or a key."""
    return _ID.fullmatch(id) is not None


def _refuse_unclean(clean: Callable[[str], str], code: LiteralString) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return clean(value)
        except InvalidInput as error:
            raise PydanticCustomError(code, "{reason}", {"reason": error.detail}) from None

    return AfterValidator(check)


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


def _join_faults(value: object, inner: ValidatorFunctionWrapHandler) -> object:
    """Report one fault for all kinds of values that are possible here, in place of one for each."""
    try:
        return inner(value)
    except ValidationError:
        raise PydanticCustomError("languages", "this must be `all`, `none` or a list of tags, 200 at most") from None


PictureId = Annotated[
    str, Field(min_length=1, max_length=text.MAX_ID_BYTES), _refuse_unclean(text.clean_picture_id, "picture_id")
]
Collection = Annotated[
    str, Field(min_length=1, max_length=text.MAX_NAME), _refuse_unclean(text.clean_name, "collection_name")
]
Collections = Annotated[
    list[Collection], Field(min_length=1, max_length=64), AfterValidator(lambda names: list(dict.fromkeys(names)))
]
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


class RequestBody(BaseModel):
    """What a body says, in JSON or as a form: exact types, known fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Response(BaseModel):
    """The body of a response; NaN in it is a bug of ours and fails here."""

    model_config = ConfigDict(allow_inf_nan=False, from_attributes=True)


def _drop_required(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


class ItemWithFields(Response):
    """An item of which `?fields=` may leave out whatever it likes, so a client may rely on no field."""

    model_config = ConfigDict(json_schema_extra=_drop_required)


class FacetValue(Response):
    """A value, and how many pictures have it."""

    value: str | bool | int | float
    count: int


Facets = dict[str, list[FacetValue]]


class Place(Response):
    location: str
    code: str


Flag = Literal["true", "false"]  # in a form


def make_flag(description: str) -> Any:
    """Make a field of a form that is off unless it is set."""
    return Field("false", description=description)


def _make_rare(description: str) -> Any:
    """Make a field that is left out where it has nothing to say."""
    return Field(None, exclude_if=lambda value: value is None, description=description)


class Problem(Response):
    """The body of every error (RFC 9457). What only some errors have is left out of others."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Place]
    retry_after_seconds: int | None = _make_rare("With 429 and 503: as `Retry-After`.")
    languages: list[str] | None = _make_rare("With `language_not_found`: the available ones.")
    release: int | None = _make_rare("With `alias_moved`: the release that serves now.")
    expansion: str | None = _make_rare("With `expansion_in_progress`: the id of that expansion.")
    report: Report | None = _make_rare("With refused datasets: counts and lines by kind of fault.")
    count: int | None = _make_rare("With `picture_not_found`: how many pictures are unknown.")
    versions: list[int] | None = _make_rare("With `version_pruned`: the versions whose files are gone.")
    kind: str | None = _make_rare("With `dataset_invalid`: what is wrong with the file as a whole.")


class IndexRecall(Response):
    """The share of the ten nearest pictures that searches found, `of` the gallery's captions or made-up texts."""

    share: float
    queries: int
    of: Literal["captions", "made-up"]
    depth: int | None = Field(
        description="The most that is searched of a part of the index for ten hits, chosen for PICTOGLOT_RECALL: lists "
        "of a segment, or candidates of pgvector's graph; null where all is compared, or Milvus decides."
    )
    unit: Literal["lists", "candidates"] | None = Field(description="What `depth` counts.")

    @classmethod
    def describe(cls, found: SampledRecall | None) -> "IndexRecall | None":
        """Describe what was measured; None where there is nothing."""
        if found is None:
            return None
        of: Literal["captions", "made-up"] = "captions" if found.captions else "made-up"
        return cls(share=found.share, queries=found.queries, of=of, depth=found.depth, unit=found.unit)


def describe_file(*media_types: str, description: str = "The file.") -> dict[int | str, dict[str, Any]]:
    """Make the `responses` of a route that answers with bytes of one of these media types."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {200: {"description": description, "content": content}}
