"""Reads what a request says of pictures as records: form fields, merge patches, `If-Match`, the fields wanted."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from fastapi import Request
from pydantic import BaseModel

from index.facts import checked_metadata, checked_tags
from index.filters import Filter, parsed
from index.records import Given, Patch, Record, Seen, Within
from index.selection import PICTURES, Left, Selection, Wanted
from index.vectors import Keys
from model.languages import canonical
from model.text import clean
from service import bodies
from service.auth import Principal
from service.problems import location
from service.reading import Reading
from service.schemas import gallery as schemas
from service.schemas.common import Captions, FacetValue
from service.schemas.search import PictureHit
from store.errors import FieldError, InvalidFilter, InvalidInput, PictoglotError, RegistryUnavailable
from store.registry import Registry

P = ParamSpec("P")
T = TypeVar("T")
_ITEM_FIELDS = {*schemas.PictureItem.model_fields, *PictureHit.model_fields}
_HIT_SECONDS = 0.5  # that a search waits for the records of its hits
_HERE = 4  # searches that read a near registry in their own threads at a time
_FILTER_SECONDS = 6.0  # that a request waits for what its filter leaves; longer than PostgreSQL may take for it
_AWAY_SECONDS = 5.0  # for which nobody asks a registry that did not answer for the records of hits


def said_of(record: schemas.PictureRecord, caller: Principal) -> tuple[Captions | None, Given]:
    """The captions of one record of a batch, and what else it says; raises as `captions_of` and `given_by`."""
    caller.require(record.collection)
    given = Given(
        collection=record.collection,
        tags=None if record.tags is None else checked_tags(record.tags),
        metadata=None if record.metadata is None else checked_metadata(record.metadata),
        home=caller.home,
        within=caller.collections,
    )
    return None if record.captions is None else _captions(record.captions), given


def captions_of(given: str | None) -> Captions | None:
    """The captions of a form by language: cleaned, without duplicates. A language need not be served."""
    if given is None:
        return None
    return _captions(
        bodies.validated(schemas.CaptionsOfPicture, {"captions": bodies.parse_field(given, "captions")}).captions
    )


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


def given_by(form: schemas.PictureForm, caller: Principal, if_match: str | None = None) -> Given:
    """What a form says of a picture, for the etags of `If-Match`.

    Raises `InvalidInput`, `MetadataInvalid`, and `Forbidden`.
    """
    caller.require(form.collection)
    return Given(
        collection=form.collection,
        tags=None if form.tags is None else checked_tags(form.tags),
        metadata=None if form.metadata is None else checked_metadata(bodies.parse_field(form.metadata, "metadata")),
        home=caller.home,
        within=caller.collections,
        seen=seen(if_match),
    )


async def patch_of(id: str, request: Request, if_match: str | None, caller: Principal) -> Patch:
    """The merge patch in a body, with its texts cleaned, for the etags of `If-Match`.

    Raises as `given_by`, and `LanguageTagInvalid`.
    """
    body = await bodies.read_json(request, schemas.RecordPatch, bodies.MERGE_PATCH)
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
    return None if given is None else _filter(given, "query.filter")


def filter_in_form(given: str | None) -> Filter | None:
    """The filter in a field of a form; raises `InvalidFilter`."""
    return None if given is None else _filter(given, "body.filter")


def _filter(text: str, place: str) -> Filter:
    try:
        given = bodies.parse_json(text.encode())
    except InvalidInput:
        raise InvalidFilter("duplicate key in the filter", errors=(FieldError(place, "duplicate_key"),)) from None
    except (PictoglotError, UnicodeEncodeError):
        raise InvalidFilter("the filter is not JSON", errors=(FieldError(place, "json"),)) from None
    return parsed(given, place)


def path_of(id: str) -> str:
    """The path of a picture, whose id may have slashes."""
    return f"/v1/pictures/{quote(id, safe='')}"


def quoted(etag: str) -> str:
    """The header `ETag` of a record."""
    return f'"{etag}"'


class RecordsOfHits:
    """Reads the records of what a search found. A registry that does not answer holds up hardly any search.

    A registry that is near is read in the search's own thread: going to another one and back takes longer than reading.
    Should it hang all the same, only the first searches wait for it.
    """

    def __init__(self, registry: Registry, selection: Selection) -> None:
        self._selection, self._away_until = selection, -math.inf
        self._reading, self._here = Reading(4), BoundedSemaphore(_HERE)
        self._near = registry.near

    def read(self, ids: Sequence[str], caller: Principal) -> dict[str, Record] | None:
        """The records of those pictures that the caller may see; None while the registry does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            if self._near and self._here.acquire(blocking=False):
                try:
                    return self._records(ids, caller.collections)
                finally:
                    self._here.release()
            return self._reading.now(_HIT_SECONDS, self._records, ids, caller.collections)
        except RegistryUnavailable:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            return None

    def _records(self, ids: Sequence[str], within: Within) -> dict[str, Record]:
        found = self._selection.records(ids, within)
        self._away_until = -math.inf  # it answers, though perhaps too late for who asked
        return found


class Filtering:
    """What filters and facets ask of the registry, in threads of their own, and in others words, and what is plain.

    So no search, and no reading of pictures, that asks none of these ever waits for one that does, and words alone, of
    a key for all collections, wait for no filter.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection, self._reading = selection, Reading(4)
        self._plain, self._words = Reading(4), Reading(4)

    async def read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `read` returns of the registry; raises `RegistryUnavailable`, at the latest after some seconds."""
        return await self._reading.wait(_FILTER_SECONDS, read, *args, **kwargs)

    async def read_plainly(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for what asks no filter, words or facets."""
        return await self._plain.wait(_FILTER_SECONDS, read, *args, **kwargs)

    async def words(self, wanted: Wanted, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, for words; with a filter it is one more of these."""
        reading = self._words if wanted.everything else self._reading
        return await reading.wait(_FILTER_SECONDS, read, *args, **kwargs)

    async def read_in(self, place: asyncio.Semaphore, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, in a place that was taken: it is free again when no thread reads, which may be later."""
        return await self._reading.wait_in(place, _FILTER_SECONDS, read, *args, **kwargs)

    async def allowed(self, wanted: Wanted, language: str = PICTURES, version: int = 0) -> Keys | None:
        """As `Selection.allowed`; raises as `read`."""
        if wanted.everything:
            return None
        return await self.read(self._selection.allowed, wanted, language, version)

    async def left(self, wanted: Wanted, *, anew: bool = False) -> Left | None:
        """As `Selection.left` of pictures; raises as `read`."""
        return None if wanted.everything else await self.read(self._selection.left, wanted, anew=anew)

    async def facets(self, wanted: Wanted, keys: Sequence[str] | None) -> dict[str, list[FacetValue]] | None:
        """As `facets_of`; raises as `read`."""
        return None if keys is None else await self.read(self.facets_of, wanted, keys)

    def facets_of(self, wanted: Wanted, keys: Sequence[str]) -> dict[str, list[FacetValue]]:
        """As `Selection.facets`, in this thread."""
        counted = self._selection.facets(wanted, keys)
        return {key: list(map(FacetValue.model_validate, each)) for key, each in counted.items()}


@dataclass(frozen=True)
class LeftOut:
    """What of an answer with items is not wanted: fields of each item, and facets that nobody asked for."""

    fields: frozenset[str]
    facets: bool

    @classmethod
    def of(cls, fields: str | None, model: type[BaseModel], facets: Sequence[str] | None) -> "LeftOut":
        """By the `fields` and `facets` of a request; raises `InvalidInput` for a field that no item has.

        One list of `fields` does for all: of what only other items have, as a picture of the listing has no `score`,
        nothing is shown.
        """
        names = frozenset(model.model_fields)
        wanted = names if fields is None else {name.strip() for name in fields.split(",")}
        if not wanted <= _ITEM_FIELDS:
            places = (FieldError("query.fields", "unknown_field"),)
            raise InvalidInput(f"the fields are: {', '.join(model.model_fields)}", errors=places)
        return cls(names - wanted, facets is None)

    @classmethod
    def of_one(cls, fields: str | None, model: type[BaseModel]) -> frozenset[str]:
        """As `of`, for an answer that is one item: what is left out of it."""
        return cls.of(fields, model, None).fields

    @property
    def exclude(self) -> Mapping[str, Any]:
        """As pydantic wants it."""
        items = {"items": {"__all__": {*self.fields}}} if self.fields else {}
        return {**items, **({"facets": True} if self.facets else {})}
