"""The components of one running service, built in `service.app` and passed to every route."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Event
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Depends, Request, Response
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from index.gallery import Gallery
from index.live import LiveIndex
from index.records import Collections, Record, find_records
from index.selection import Selection
from index.snapshot import Snapshot
from index.vectors import Vector
from index.word_search import WordSearch
from model.dataset.child import DatasetChecker
from model.encoder import Encoder
from model.lexicon import Spelling
from model.text import clean_picture_id
from service.auth import RateLimiter
from service.batching import AdmissionLimit, PictureQueue, TextQueue, WriteQueue
from service.forms import FORMS, BodyKind
from service.lanes import AWAY_SECONDS, DATASET_CHECKS, Lane, Lanes
from service.listings import Cursors
from service.metrics import Metrics
from service.oidc import Provider
from service.people import People, Principal
from service.problems import format_size
from service.requests import JSON, RequestTiming
from service.schemas.speakers import LanguageTerms, TermsInBrief
from service.settings import Settings
from service.words import UnknownWordCounter, WordAsker
from store.data_root import DataRoot
from store.errors import InvalidInput, PictureNotFound, RegistryUnavailable
from store.keys import ApiKeys
from store.registry import Registry

_LOCAL_READERS = 4  # searches that read a near registry in their own threads at a time
_OVERHEAD = 128 << 10  # bytes of a form without its file: boundaries, headers, fields
_SEARCHES = 16  # times as long as one search may be: many are, and most are short
_CHANGES = 32  # times as long as other JSON: a thousand ids of a kilobyte
_LONG_REQUESTS = 4  # of each kind at once; each is held in memory with its answers
_OVERHEAD_OF_PICTURE = _OVERHEAD + FORMS[BodyKind.PICTURE].field_bytes
_OVERHEAD_OF_PICTURES = 2 * _OVERHEAD + FORMS[BodyKind.PICTURES].field_bytes


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
    """The terms of all languages as read last, at the start or by `refresh`: no search waits. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._current: Mapping[str, TermsInBrief] = {}
        with suppress(RegistryUnavailable):
            self.refresh()

    def refresh(self) -> None:
        """Read them anew. Raises RegistryUnavailable."""
        described = ((tag, LanguageTerms.describe(each)) for tag, each in self._registry.terms.list_current().items())
        self._current = {tag: TermsInBrief.model_validate(each) for tag, each in described if each is not None}

    def get(self, language: str) -> TermsInBrief | None:
        """Return the terms of a language; None if none are known."""
        return self._current.get(language)


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
    datasets: DatasetChecker = field(default_factory=lambda: DatasetChecker(DATASET_CHECKS))
    hit_records: HitRecords = field(init=False)
    words: WordSearch = field(init=False)
    spelling: Spelling = field(init=False)
    asker: WordAsker = field(init=False)
    unknown_words: UnknownWordCounter = field(init=False)
    terms: TermsCopy = field(init=False)
    provider: Provider | None = field(init=False)
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
        self.provider = Provider(settings) if settings.oidc_issuer else None
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


async def get_context(request: Request) -> Context:
    """Return the context that served when `request` came; async, or FastAPI would take a thread for it."""
    context: Context = request.state.context
    return context


async def get_principal(request: Request) -> Principal:
    """Return who sent the request, as the route's guard identified them."""
    principal: Principal = request.state.principal
    return principal


AppContext = Annotated[Context, Depends(get_context)]
Caller = Annotated[Principal, Depends(get_principal)]
PathId = Annotated[str, AfterValidator(_parse_id)]
NewPathId = Annotated[str, AfterValidator(_parse_new_id)]
