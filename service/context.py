"""The components of one running service, built once in `service.app` and passed to every route."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response
from pydantic import BaseModel

from index.encoding import Encoder
from index.gallery import Gallery
from index.live import LiveIndex
from model.data_root import DataRoot
from model.registry import Registry
from service.access_log import Parts
from service.auth import Body, Keyring, Principal, Rate
from service.batching import PictureQueue, TextQueue, WriteQueue
from service.bodies import JSON
from service.cursors import Cursors
from service.keys import Keys
from service.metrics import Metrics
from service.settings import Settings

_OVERHEAD = 128 << 10  # bytes of a form without its file: boundaries, headers, fields


@dataclass
class Context:
    """The components. `draining` becomes true at shutdown and stays so.

    Slow work has limiters of its own, so that it cannot take the threads that searches need.
    """

    settings: Settings
    root: DataRoot
    registry: Registry
    encoder: Encoder
    gallery: Gallery
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
    validating: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))  # datasets
    following: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # opening a new release
    draining: bool = False
    body_limits: dict[Body, tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.body_limits = {
            Body.JSON: (settings.json_bytes, settings.body_seconds),
            Body.PICTURE: (settings.picture_bytes + _OVERHEAD, settings.body_seconds),
            Body.DATASET: (settings.dataset_bytes + _OVERHEAD, settings.dataset_seconds),
        }

    async def answer(self, build: Callable[[], BaseModel], parts: Parts | None = None) -> Response:
        """The JSON of what `build` returns, made in the threads of searches: a large one would block the event loop.

        `parts` get the wait for a thread as `thread`, and what `build` counts no part of as `json`.
        """
        counted = parts or Parts()

        def make() -> Response:
            counted.end("thread")
            answer = Response(build().model_dump_json(), media_type=JSON)
            counted.end("json")
            return answer

        return await to_thread.run_sync(make, limiter=self.searching)


async def context_of(request: Request) -> Context:
    """The context of the application that handles `request`; async, or FastAPI would take a thread for it."""
    context: Context = request.app.state.context
    return context


async def principal_of(request: Request) -> Principal:
    """Who sent the request, as the route's guard identified them."""
    principal: Principal = request.state.principal
    return principal


AppContext = Annotated[Context, Depends(context_of)]
Caller = Annotated[Principal, Depends(principal_of)]
