"""Reads what a request says of pictures as records: form fields, merge patches, `If-Match`, the fields wanted."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from index.facts import checked_metadata, checked_tags
from index.filters import Filter, parsed
from index.records import Given, Patch, Seen
from model.languages import canonical
from model.text import clean
from service.auth import Principal
from service.bodies import parse_json
from service.problems import location
from service.schemas import gallery as schemas
from service.schemas.common import Captions
from service.schemas.search import PictureHit
from store.errors import FieldError, InvalidInput, PictoglotError

_ITEM_FIELDS = {*schemas.PictureItem.model_fields, *PictureHit.model_fields}


def said_of(
    record: schemas.PictureForm, caller: Principal, if_match: str | None = None
) -> tuple[Captions | None, Given]:
    """The captions of a picture by language, cleaned and without duplicates, and what else is said of it.

    A language need not be served. `if_match` has the etags of `If-Match`. Raises `InvalidInput`, `LanguageTagInvalid`,
    `MetadataInvalid`, and `Forbidden`.
    """
    caller.require(record.collection)
    given = Given(
        collection=record.collection,
        tags=None if record.tags is None else checked_tags(record.tags),
        metadata=None if record.metadata is None else checked_metadata(record.metadata),
        home=caller.home,
        within=caller.collections,
        seen=seen(if_match),
    )
    return None if record.captions is None else _captions(record.captions), given


def _captions(by_tag: Mapping[str, Iterable[str]]) -> Captions:
    captions: Captions = {}
    for tag, texts in by_tag.items():
        with _placed(tag):
            kept = captions.setdefault(canonical(tag), [])
        for number, text in enumerate(texts):
            with _placed(tag, number):
                cleaned = clean(text)
            if cleaned not in kept:
                kept.append(cleaned)
    return captions


@contextmanager
def _placed(*place: str | int) -> Iterator[None]:
    """What refuses a caption tells which one it is."""
    try:
        yield
    except PictoglotError as error:
        error.errors = (FieldError(location("body", ["captions", *place]), error.code),)
        raise


def patch_of(id: str, body: schemas.RecordPatch, if_match: str | None, caller: Principal) -> Patch:
    """The merge patch with its texts cleaned, for the etags of `If-Match`; raises as `said_of`."""
    document: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if body.captions is not None:
        given = {tag: texts for tag, texts in body.captions.items() if texts is not None}
        gone = {canonical(tag): None for tag, texts in body.captions.items() if texts is None}
        document["captions"] = {**gone, **_captions(given)}
    if body.tags is not None:
        document["tags"] = checked_tags(body.tags)
    if "collection" in document:
        document["collection"] = body.collection or caller.home
        caller.require(document["collection"])
    return Patch(id, document, seen(if_match), caller.collections)


def seen(if_match: str | None) -> Seen | None:
    """The record of `If-Match` (RFC 9110, 13.1.1); None without it. A weak etag never matches.

    A tag may also come without its quotes, as `etag` has it in the JSON of an answer.
    """
    if if_match is None:
        return None
    if if_match.strip() == "*":
        return Seen()
    given = [tag.strip() for tag in if_match.split(",")]
    return Seen(frozenset(tag[1:-1] if len(tag) >= 2 and tag[0] == tag[-1] == '"' else tag for tag in given))


def filter_in_query(given: str | None) -> Filter | None:
    """The filter in the query of a listing; raises `InvalidFilter`."""
    if given is None:
        return None
    return parsed(parse_json(given.encode(), "query.filter"), "query.filter")


def path_of(id: str) -> str:
    """The path of a picture, whose id may have slashes."""
    return f"/v1/pictures/{quote(id, safe='')}"


def unwanted(fields: str | None, model: type[BaseModel]) -> frozenset[str]:
    """What `fields` of a request leaves out of each item; raises `InvalidInput` for a field that no item has.

    One list of `fields` does for all: of what only other items have, as a picture of the listing has no `score`,
    nothing is shown.
    """
    names = frozenset(model.model_fields)
    wanted = names if fields is None else {name.strip() for name in fields.split(",")}
    if not wanted <= _ITEM_FIELDS:
        places = (FieldError("query.fields", "unknown_field"),)
        raise InvalidInput(f"the fields are: {', '.join(model.model_fields)}", errors=places)
    return names - wanted


def exclude(fields: frozenset[str], *, facets: bool) -> Mapping[str, Any]:
    """What pydantic leaves out of an answer with items: these fields of each, and the `facets`."""
    items = {"items": {"__all__": {*fields}}} if fields else {}
    return {**items, **({"facets": True} if facets else {})}
