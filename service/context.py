"""The components of one running service, built in `service.app`; what routes of searches and listings share."""

import base64
import binascii
import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote

from fastapi import Query, Response
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from index.filters import Filter, parse_filter
from index.gallery import Gallery
from index.live import LiveIndex
from index.records import Collections, Record, find_records
from index.selection import Selection
from index.snapshot import Snapshot
from index.vectors import Vector, VectorSet
from index.word_search import WordSearch
from model.dataset.child import DatasetChecker
from model.encoder import Encoder
from model.lexicon import Spelling
from model.text import clean_picture_id
from service.batching import AdmissionLimit, PictureQueue, TextQueue, WriteQueue
from service.forms import FORMS, BodyKind
from service.lanes import AWAY_SECONDS, DATASET_CHECKS, Lane, Lanes
from service.metrics import Metrics
from service.people import People, Principal, RateLimiter
from service.problems import CursorExpired, InvalidCursor, format_size
from service.requests import JSON, RequestTiming, parse_json
from service.schemas.gallery import PictureItem
from service.schemas.search import PictureHit
from service.schemas.speakers import LanguageTerms, TermsInBrief
from service.settings import Settings
from service.wanted_words import UnknownWordCounter, WordAsker
from store.data_root import DataRoot
from store.errors import InvalidInput, PictureNotFound, RegistryUnavailable
from store.keys import ApiKeys
from store.registry import Registry

_CURSOR_FILE = "cursor.key"
_SIGNATURE_BYTES = 16  # of the HMAC
_ITEM_FIELDS = dict.fromkeys([*PictureItem.model_fields, *PictureHit.model_fields])
_LOCAL_READERS = 4  # searches that read a near registry in their own threads at a time
_OVERHEAD = 128 << 10  # bytes of a form without its file: boundaries, headers, fields
_SEARCHES = 16  # times as long as one search may be: many are, and most are short
_CHANGES = 32  # times as long as other JSON: a thousand ids of a kilobyte
_SESSIONS_PER_MINUTE = 60  # with one key: each is kept for 30 days, and its entry in the log for ever
_STREAMS = 64  # of events at once: each reads the registry twice a second
_LONG_REQUESTS = 4  # of each kind at once; each is held in memory with its answers
_OVERHEAD_OF_PICTURE = _OVERHEAD + FORMS[BodyKind.PICTURE].field_bytes
_OVERHEAD_OF_PICTURES = 2 * _OVERHEAD + FORMS[BodyKind.PICTURES].field_bytes

T = TypeVar("T")


class HitRecords:
    """The records of what searches find. A registry that does not answer holds up hardly any search.

    A registry that is near is read in the search's own thread: going to another one and back takes longer than reading.
    Should it hang all the same, only the first searches wait for it.
    """

    def __init__(self, registry: Registry, lane: Lane) -> None:
        self._registry, self._lane, self._near = registry, lane, registry.is_local
        self._local_readers, self._away_until = BoundedSemaphore(_LOCAL_READERS), -math.inf

    def read(self, ids: Sequence[str], within: Collections) -> dict[str, Record] | None:
        """Return the records of those pictures that are `within`; None while the registry does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            if self._near and self._local_readers.acquire(blocking=False):
                try:
                    return self._read(ids, within)
                finally:
                    self._local_readers.release()
            return self._lane.run_blocking(self._read, ids, within)
        except RegistryUnavailable:
            self._away_until = time.monotonic() + AWAY_SECONDS
            return None

    def _read(self, ids: Sequence[str], within: Collections) -> dict[str, Record]:
        with self._registry.connect_for_reading() as connection:
            found = find_records(connection, ids, within)
        self._away_until = -math.inf  # it answers, though perhaps too late for who asked
        return found


class TermsCopy:
    """The `current` terms by language, as read last, at the start or by `refresh`: no search waits. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.current: Mapping[str, TermsInBrief] = {}
        with suppress(RegistryUnavailable):
            self.refresh()

    def refresh(self) -> None:
        """Read them anew. Raises RegistryUnavailable."""
        described = ((tag, LanguageTerms.describe(each)) for tag, each in self._registry.terms.list_current().items())
        self.current = {tag: TermsInBrief.model_validate(each) for tag, each in described if each is not None}


class Cursors:
    """Opaque cursors that are signed: no client can forge one, or use one for another query. Keeps no state."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def open(root: DataRoot) -> "Cursors":
        """Read the data root's secret, created at the first start, so that cursors stay valid after a restart."""
        return Cursors(root.read_or_create(_CURSOR_FILE, lambda: secrets.token_bytes(32), private=True))

    def paginate(
        self,
        query: object,
        limit: int,
        cursor: str | None,
        fetch: Callable[[int, Any], Sequence[T]],
        place_of: Callable[[T], Any],
        state: object = None,
    ) -> tuple[Sequence[T], str | None]:
        """Return one page of the answer to `query` in a `state`, and the cursor of the next page if there is one.

        `fetch(count, place)` returns items in order: the first ones, or those after `place`, the plain JSON that
        `place_of` returns for an item. Raises what `read_place` raises.
        """
        items = fetch(limit + 1, self.read_place(query, cursor, state))
        if len(items) <= limit:
            return items, None
        return items[:limit], self.write_place(query, place_of(items[limit - 1]), state)

    def write_place(self, query: object, place: object, state: object = None) -> str:
        """Return a cursor to a `place` (plain JSON) within the answer to `query`, valid in one `state`."""
        payload = json.dumps({"state": state, "after": place}, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(query, payload) + payload).decode().rstrip("=")

    def read_place(self, query: object, cursor: str | None, state: object = None) -> Any:
        """Return the place that a cursor names; None without a cursor.

        Raises `InvalidCursor` unless this server made the cursor for this query, and `CursorExpired` in another state.
        """
        if cursor is None:
            return None
        refusal = InvalidCursor("this server did not give out this cursor for this query")
        try:
            data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise refusal from None
        payload = data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(data[:_SIGNATURE_BYTES], self._sign(query, payload)):
            raise refusal
        content = json.loads(payload)
        if content["state"] != state:
            raise CursorExpired("the release or the gallery has changed: search again without a cursor")
        return content["after"]

    def _sign(self, query: object, payload: bytes) -> bytes:
        digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).digest() + payload
        return hmac.digest(self._secret, digest, "sha256")[:_SIGNATURE_BYTES]


@dataclass
class Context:
    """The components of one base; a move to another one makes another context, its `successor`.

    `base` is the base's name as clients see it, `open_encoder` opens the one that serves. `requests` counts those under
    way.
    """

    settings: Settings
    root: DataRoot
    registry: Registry
    encoder: Encoder
    base: str
    open_encoder: Callable[[Settings], Encoder]
    gallery: Gallery
    selection: Selection
    live: LiveIndex
    keys: ApiKeys
    people: People
    rate: RateLimiter
    cursors: Cursors
    metrics: Metrics
    text_queue: TextQueue
    picture_queue: PictureQueue
    write_queue: WriteQueue
    lanes: Lanes
    sign_ins: RateLimiter = field(default_factory=lambda: RateLimiter(_SESSIONS_PER_MINUTE))
    streams: AdmissionLimit = field(default_factory=lambda: AdmissionLimit(_STREAMS, "streams of events"))
    datasets: DatasetChecker = field(default_factory=lambda: DatasetChecker(DATASET_CHECKS))
    hit_records: HitRecords = field(init=False)
    words: WordSearch = field(init=False)
    spelling: Spelling = field(init=False)
    asker: WordAsker = field(init=False)
    unknown_words: UnknownWordCounter = field(init=False)
    terms: TermsCopy = field(init=False)
    stopping: Event = field(default_factory=Event)  # set when the process is about to end; the same of all contexts
    requests: int = 0
    is_broker_down: bool = False
    successor: "Context | None" = None
    body_limits: dict[BodyKind, tuple[int, float, str]] = field(init=False)
    admissions: dict[BodyKind, AdmissionLimit] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.hit_records = HitRecords(self.registry, self.lanes.hits)
        self.words = WordSearch(self.registry)
        self.spelling = Spelling(self.encoder.things, self.encoder.unseen)
        self.asker = WordAsker(self.encoder, self.gallery)
        self.unknown_words = UnknownWordCounter(self.registry)
        self.terms = TermsCopy(self.registry)
        self.admissions = {
            BodyKind.PICTURE: self.picture_queue.searches,
            BodyKind.PICTURES_IN_JSON: self.picture_queue.searches,
            BodyKind.UPLOAD: self.picture_queue.uploads,
            BodyKind.PICTURES: self.picture_queue.batches,
            BodyKind.SEARCHES: AdmissionLimit(_LONG_REQUESTS, "batches of searches"),
            BodyKind.CHANGES: AdmissionLimit(_LONG_REQUESTS, "changes of many pictures"),
        }
        base64 = settings.picture_bytes * 4 // 3  # four bytes for three
        named = f"a picture (at most {format_size(settings.picture_bytes)}: PICTOGLOT_PICTURE_BYTES) with its fields"
        picture = settings.picture_bytes + _OVERHEAD_OF_PICTURE, named
        batch = settings.batch_bytes + _OVERHEAD_OF_PICTURES, "a batch"
        limits = {
            BodyKind.JSON: (settings.json_bytes, "JSON"),
            BodyKind.PICTURE: picture,
            BodyKind.UPLOAD: picture,
            BodyKind.PICTURES_IN_JSON: (base64 + settings.json_bytes, "pictures in JSON"),
            BodyKind.SEARCHES: (_SEARCHES * settings.json_bytes, "searches"),
            BodyKind.CHANGES: (_CHANGES * settings.json_bytes, "a change of many pictures"),
            BodyKind.PICTURES: batch,
        }
        dataset = settings.dataset_bytes + _OVERHEAD, settings.dataset_seconds
        self.body_limits = {kind: (most, settings.body_seconds, what) for kind, (most, what) in limits.items()}
        self.body_limits[BodyKind.DATASET] = (*dataset, "a dataset")
        self.body_limits[BodyKind.LANGUAGE] = (*dataset, "a language file")

    @property
    def newest(self) -> "Context":
        """The context that serves by now."""
        context = self
        while context.successor is not None:
            context = context.successor
        return context

    async def refresh_successor(self) -> None:
        """Refresh the context that serves by now, if it is another: it must find what was written through this one."""
        if self.successor is not None:
            await run_in_threadpool(self.newest.live.refresh)

    async def find_vector(self, picture: str, snapshot: Snapshot, caller: Principal) -> Vector:
        """Find the stored vector of a picture; for a bound key that of its content now: an older one may be another's.

        Raises `PictureNotFound`, also for one in a collection that the key is not bound to.
        """
        if caller.collections is None:
            return await self.lanes.search.run(snapshot.find_picture_vector, picture)
        return await self.lanes.read.run(self._read_vector, picture, caller.collections)

    def _read_vector(self, picture: str, within: frozenset[str]) -> Vector:
        content = self.gallery.get(picture, within).content_sha256
        vector = self.gallery.find_vector(content, self.encoder.image_fingerprint)
        if vector is None:
            raise PictureNotFound("there is no picture with this id")
        return vector

    async def answer(
        self,
        build: Callable[[], BaseModel],
        timing: RequestTiming | None = None,
        without: Mapping[str, Any] | None = None,
    ) -> Response:
        """Answer with the JSON of what `build` returns, made in a thread: a large one would block the event loop.

        `timing` counts the wait for a thread as `thread`, and what `build` leaves uncounted as `json`. `without` is
        pydantic's `exclude`.
        """
        timing = timing or RequestTiming()

        def make() -> Response:
            timing.record("thread")
            answer = Response(build().model_dump_json(exclude=without), media_type=JSON)
            timing.record("json")
            return answer

        return await self.lanes.search.run(make)


def parse_query_filter(text: str | None) -> Filter | None:
    """Parse the filter in the query of a listing; raises `InvalidFilter`."""
    if text is None:
        return None
    return parse_filter(parse_json(text.encode(), "query.filter"), "query.filter")


def _check_fields(fields: str | None) -> str | None:
    if fields is not None and not {*_split_fields(fields)} <= {*_ITEM_FIELDS}:
        raise PydanticCustomError("unknown_field", "the fields are: {known}", {"known": ", ".join(_ITEM_FIELDS)})
    return fields


QueryFields = Annotated[
    str | None,
    Query(max_length=500, description="The fields of each item that are wanted, separated by commas."),
    AfterValidator(_check_fields),
]


def find_unwanted_fields(fields: str | None, model: type[BaseModel]) -> frozenset[str]:
    """Find what `QueryFields` leave out of each item. A name that only other kinds of items have shows nothing."""
    return frozenset() if fields is None else frozenset(model.model_fields).difference(_split_fields(fields))


def _split_fields(fields: str) -> list[str]:
    return [name.strip() for name in fields.split(",")]


def exclude_fields(fields: frozenset[str], *, facets: bool) -> Mapping[str, Any]:
    """Make pydantic's `exclude` for an answer with items: these fields of each, and the `facets`."""
    items = {"items": {"__all__": {*fields}}} if fields else {}
    return {**items, **({"facets": True} if facets else {})}


def name_generation(vector_set: VectorSet, caller: Principal) -> str:
    """Name the state of a set; to a bound key without the last change, which would tell of other collections."""
    return vector_set.generation if caller.collections is None else vector_set.identity.name


def count_milliseconds(started: float) -> float:
    """Count the milliseconds since a reading of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1_000, 3)


def make_picture_path(id: str) -> str:
    """Return the path of a picture, whose id may have slashes."""
    return f"/v1/pictures/{quote(id, safe='')}"


def _parse_id(part: str) -> str:
    """Return the id of a picture in a part of a path; empty when it is none, which no picture has."""
    try:
        return clean_picture_id(unquote(part))
    except InvalidInput:
        return ""


def _parse_new_id(part: str) -> str:
    if not (id := _parse_id(part)):
        detail = "an id is like a relative path of at most 1,024 bytes, with no dot first"
        raise PydanticCustomError("picture_id", detail)
    return id


PathId = Annotated[str, AfterValidator(_parse_id)]
NewPathId = Annotated[str, AfterValidator(_parse_new_id)]
