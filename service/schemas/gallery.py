"""Pictures and their records."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from index.bulk import MOST
from index.facts import MOST_TAGS
from service.schemas import (
    Captions,
    Collection,
    Facets,
    FacetValue,
    Finite,
    ItemWithFields,
    PictureId,
    Problem,
    RequestBody,
    Response,
)

_TAGS = "At most 64: repeated, or a JSON list. If left out, existing tags stay."
_METADATA = (
    "A flat JSON object of at most 16 KiB: keys of 1 to 64 of `a-z 0-9 _`; values are strings, numbers, true or false, "
    "and lists of strings. A string that is an RFC 3339 date is also a date. If left out, existing metadata stays."
)
# Of any type here, so that what is no object is refused as all metadata that is not as it should be. Only null in a
# form is refused earlier, as in all its fields: here it would mean that the field was left out.
_AnyMetadata = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}]})]


_Captions = Annotated[dict[str, Annotated[list[str], Field(max_length=100)]], Field(max_length=100)]


class PictureForm(RequestBody):
    """Fields sent with the file `picture`; `captions` is JSON: `{TAG: [text, ...]}`."""

    captions: _Captions | None = Field(None, description="If left out, existing captions stay.")
    collection: Collection | None = Field(None, description="If left out, it stays, and is `default` for a new one.")
    tags: list[str] | None = Field(None, max_length=1_000, description=_TAGS)
    metadata: _AnyMetadata = Field(None, description=_METADATA)


class RecordPatch(RequestBody):
    """A JSON merge patch (RFC 7396): what is left out stays, null removes, lists are replaced."""

    captions: dict[str, Annotated[list[str], Field(max_length=100)] | None] | None = Field(None, max_length=100)
    tags: list[str] | None = Field(None, max_length=1_000)
    metadata: _AnyMetadata = None
    collection: Collection | None = None


class BatchForm(RequestBody):
    """Fields sent with up to 256 files `picture`, of which the n-th belongs to the n-th record."""

    records: Any = Field(
        None,
        json_schema_extra={"type": "object"},
        description="A list of objects, each with any of `id`, `captions`, `collection`, `tags`, `metadata`, as "
        "with `PUT`; without `id` as with `POST`. If left out, all are as with `POST`, and nothing is said of them.",
    )


class PictureRecord(PictureForm):
    """One of `records`: what is said of one picture."""

    id: PictureId | None = None


class PictureItem(ItemWithFields):
    id: str
    collection: str
    captions: Captions
    waiting: Captions = Field(description="Captions in languages that are not served: searchable when they are taught.")
    own: Captions = Field(
        description="Captions that came with the picture or a patch, in whatever language: its record's."
    )
    tags: list[str]
    metadata: dict[str, Any]
    name: str = Field(description="`title` or `file_name` of its metadata, else the last part of its id.")
    url: str
    width: int = Field(description="Of the photograph in pixels, upright; the stored copy may be smaller.")
    height: int
    original: bool = Field(description="Whether its bytes are kept as they were sent: `GET .../original`.")
    created_at: datetime
    shown_at: datetime = Field(description="When it was taken, as `taken_at` of its metadata tells, else `created_at`.")
    etag: str = Field(description="As the header `ETag`: of collection, tags, metadata, content and own captions.")


_ALREADY = "Another picture with the same bytes, the first that the key may see; of bytes that were not here before."


class PutItem(PictureItem):
    already_there_as: str | None = Field(None, description=f"{_ALREADY} Left out where there is none.")


class PicturePage(Response):
    items: list[PictureItem]
    next_cursor: str | None
    facets: Facets | None = Field(None, description="As asked for with `facets`.")


class PictureOutcome(Response):
    id: str | None = Field(description="Null where it would have come from the bytes of a picture that is refused.")
    outcome: Literal["created", "replaced", "kept", "refused"] = Field(
        description="`kept`: the picture was there with this record; nothing changed."
    )
    status: int = Field(description="Of the answer that this picture alone would have got.")
    picture: PictureItem | None
    problem: Problem | None = Field(description="Why it is refused. With status 503 or 507 it may be sent again.")
    already_there_as: str | None = Field(description=_ALREADY)


class PictureOutcomes(Response):
    """What became of each picture, in the order in which they were sent."""

    items: list[PictureOutcome]


class PictureChanges(RequestBody):
    """What becomes of all these pictures; `deleted` goes alone."""

    ids: list[PictureId] = Field(min_length=1, max_length=MOST)
    add_tags: list[str] = Field(default_factory=list, max_length=MOST_TAGS)
    remove_tags: list[str] = Field(default_factory=list, max_length=1_000)
    collection: Collection | None = None
    deleted: bool | None = Field(
        None, description="true deletes them, false brings back what was deleted within a day."
    )

    @model_validator(mode="after")
    def _require_one_change(self) -> Self:
        edits = bool(self.add_tags or self.remove_tags or self.collection)
        if edits == (self.deleted is not None):
            raise PydanticCustomError("change", "say what changes: tags and collection, or `deleted` alone")
        return self


class ChangeOutcome(Response):
    id: str
    outcome: Literal["changed", "kept", "missing"]


class ChangeOutcomes(Response):
    """What became of each picture."""

    items: list[ChangeOutcome]
    changed: int


class CollectionItem(Response):
    name: str
    count: int


class Collections(Response):
    items: list[CollectionItem]


class Limits(Response):
    """What a picture may have, as the service is set."""

    picture_bytes: int
    picture_pixels: int


class MonthCount(Response):
    value: str = Field(description="`2019-07`.")
    count: int


class GalleryFacets(Response):
    pictures: int
    months: list[MonthCount] = Field(description="By `shown_at`, in UTC, newest first.")
    folders: list[FacetValue]
    cameras: list[FacetValue]
    collections: list[FacetValue]


class NearPicture(Response):
    id: str
    name: str
    width: int = Field(description="Of the photograph, as in its record.")
    height: int
    score: Finite = Field(description="To the first picture of the group; 1 for that one.")
    url: str


class DuplicateGroup(Response):
    pictures: list[NearPicture]
    more: bool = Field(description="Whether more than 100 pictures are near the first one, of which these are nearest.")


class Duplicates(Response):
    items: list[DuplicateGroup]
    examined: int = Field(description="How many pictures were looked at for this page.")
    release: int
    generation: str
    next_cursor: str | None
    timing_ms: Finite
