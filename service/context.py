"""The components of one running service, built once in `service.app` and passed to every route."""

from asyncio import Semaphore
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, Any
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response
from pydantic import AfterValidator, BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from index.gallery import Gallery
from index.live import LiveIndex
from index.selection import Selection
from index.word_search import WordSearch
from model.dataset_child import DatasetChecker
from model.text import picture_id
from model.views import Encoder
from service.access_log import Parts
from service.auth import Body, Keyring, Principal, Rate
from service.batching import PictureQueue, Places, TextQueue
from service.bodies import JSON, MAX_RECORD_BYTES, MAX_RECORDS_BYTES
from service.cursors import Cursors
from service.metrics import Metrics
from service.records import Filtering, RecordsOfHits
from service.settings import Settings
from service.writes import WriteQueue
from store.data_root import DataRoot
from store.errors import InvalidInput
from store.keys import Keys
from store.registry import Registry

_CHECKS = 2  # of datasets at once
_OVERHEAD = 128 << 10  # bytes of a form without its file: boundaries, headers, fields
_SEARCHES = 16  # times as long as one search may be: many are, and most are short
_SEARCH_BATCHES = 4  # at once; each holds its searches and answers in memory
_OVERHEAD_OF_PICTURE = _OVERHEAD + MAX_RECORD_BYTES
_OVERHEAD_OF_PICTURES = 2 * _OVERHEAD + MAX_RECORDS_BYTES


@dataclass
class Context:
    """The components of one base; a move to another one makes another context, its `successor`.

    `base` is the base's name as clients see it, `open_encoder` opens the one that serves. `requests` counts those under
    way. Slow work has limiters of its own, so that it cannot take the threads that searches need.
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
    keys: Keys
    keyring: Keyring
    rate: Rate
    cursors: Cursors
    metrics: Metrics
    texts: TextQueue
    pictures: PictureQueue
    writes: WriteQueue
    searching: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    datasets: DatasetChecker = field(default_factory=lambda: DatasetChecker(_CHECKS))
    validating: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_CHECKS))  # datasets
    reading: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))  # batches of pictures: soon done
    hit_records: RecordsOfHits = field(init=False)
    filtering: Filtering = field(init=False)
    words: WordSearch = field(init=False)
    search_batches: Places = field(default_factory=lambda: Places(_SEARCH_BATCHES, "batches of searches"))
    batch_reads: Semaphore = field(default_factory=lambda: Semaphore(2))  # of all batches: half of filtering's threads
    comparing: Semaphore = field(default_factory=lambda: Semaphore(1))  # pages of duplicates
    following: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # opening a new release
    stopping: Event = field(default_factory=Event)
    requests: int = 0
    successor: "Context | None" = None
    body_limits: dict[Body, tuple[int, float, str]] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.hit_records, self.filtering = RecordsOfHits(self.registry, self.selection), Filtering(self.selection)
        self.words = WordSearch(self.registry, self.selection)
        picture = "a request with a picture (PICTOGLOT_PICTURE_BYTES, and what is said of it)"
        self.body_limits = {
            Body.JSON: (settings.json_bytes, settings.body_seconds, "JSON"),
            Body.PICTURE: (settings.picture_bytes + _OVERHEAD_OF_PICTURE, settings.body_seconds, picture),
            # base64 takes four bytes for three
            Body.PICTURES_IN_JSON: (
                settings.picture_bytes * 4 // 3 + settings.json_bytes,
                settings.body_seconds,
                "pictures in JSON",
            ),
            Body.SEARCHES: (_SEARCHES * settings.json_bytes, settings.body_seconds, "searches"),
            Body.PICTURES: (
                settings.batch_bytes + _OVERHEAD_OF_PICTURES,
                settings.body_seconds,
                "a batch",
            ),
            Body.DATASET: (
                settings.dataset_bytes + _OVERHEAD,
                settings.dataset_seconds,
                "a dataset",
            ),
        }

    @property
    def draining(self) -> bool:
        """Whether the process is about to end; the same for all contexts."""
        return self.stopping.is_set()

    @draining.setter
    def draining(self, draining: bool) -> None:
        if draining:
            self.stopping.set()
        else:
            self.stopping.clear()

    @property
    def newest(self) -> "Context":
        """The context that serves by now."""
        context = self
        while context.successor is not None:
            context = context.successor
        return context

    async def settle(self) -> None:
        """See to it that what was written through this context is found, if another one serves by now."""
        if self.successor is not None:
            await run_in_threadpool(self.newest.live.refresh)

    async def answer(
        self, build: Callable[[], BaseModel], parts: Parts | None = None, without: Mapping[str, Any] | None = None
    ) -> Response:
        """The JSON of what `build` returns, made in the threads of searches: a large one would block the event loop.

        `parts` get the wait for a thread as `thread`, and what `build` counts no part of as `json`. `without` is what
        is left out of it, as pydantic's `exclude`.
        """

        counted = parts or Parts()

        def make() -> Response:
            counted.end("thread")
            answer = Response(build().model_dump_json(exclude=without), media_type=JSON)
            counted.end("json")
            return answer

        return await to_thread.run_sync(make, limiter=self.searching)


class OneContext:
    """Gives each request the context that serves when it comes, and counts it there.

    Its path keeps the parts that the client sent: a slash that is percent-coded belongs to an id, and parts nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context: Context = scope["app"].state.context
        scope.setdefault("state", {})["context"] = context
        if b"%" in (raw := scope.get("raw_path") or b"") and raw.startswith(b"/v1/"):
            # in place: the access log reads the route from the scope that it passed on
            scope["path"] = "/".join(map(_whole, raw.decode("latin-1").split("/")))
        context.requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            context.requests -= 1


def _whole(part: str) -> str:
    """A part of a path, decoded but for slashes and percent signs: `unquote` gives what the client meant."""
    return unquote(part).replace("%", "%25").replace("/", "%2F")


def _id_of(part: str) -> str:
    """The id of a picture in a part of a path; empty when it is none, which no picture has."""
    try:
        return picture_id(unquote(part))
    except InvalidInput:
        return ""


async def context_of(request: Request) -> Context:
    """The context that served when `request` came; async, or FastAPI would take a thread for it."""
    context: Context = request.state.context
    return context


async def principal_of(request: Request) -> Principal:
    """Who sent the request, as the route's guard identified them."""
    principal: Principal = request.state.principal
    return principal


AppContext = Annotated[Context, Depends(context_of)]
Caller = Annotated[Principal, Depends(principal_of)]
PathId = Annotated[str, AfterValidator(_id_of)]
