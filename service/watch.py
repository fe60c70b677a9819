"""The tasks that follow the registry: releases and gallery changes that other processes made, another base to serve.

The base or encoding that a release asks for is opened beside what serves, then swapped once. A request has one context
from its beginning to its end, so that no text of one base meets a picture vector of another. What was replaced is
closed when the last of its requests has ended.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Self

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from index.gallery import Gallery
from index.live import LiveIndex
from index.set_states import open_engine
from index.sets import VectorSets
from model.encoder import Encoder
from model.processes import free_closed
from service.batching import PictureQueue, TextQueue, WriteQueue
from service.context import Context
from service.metrics import Metrics
from service.settings import Settings
from store.errors import BaseMoved, IndexUnavailable, PictoglotError, StorageFull, Unavailable
from store.registry import Registry
from store.releases import Release

PROBE_SECONDS = 5.0  # between two tries to write; what is refused has waited for 1.5 seconds
_BROKER_SECONDS = 2.0  # that a broker is waited for
_STORE_SECONDS = 60.0  # between two writes of counted words
_LONGEST_PAUSE = 60.0  # seconds, as between two attempts to open a release that could not be opened
_Act = Callable[[], Awaitable[None]]
_RETRY_SECONDS = 60.0  # after a base could not be opened
_GRACE = 5.0  # seconds beyond the longest deadline of a request until what it uses is closed
_log = logging.getLogger("pictoglot.watch")


def build_components(
    settings: Settings, registry: Registry, gallery: Gallery, metrics: Metrics, encoder: Encoder
) -> dict[str, Any]:
    """Build the fields of a `Context` that depend on the base that `encoder` has open. Raises `SettingsError`."""
    sets = VectorSets(gallery, open_engine(settings.index, registry, settings.recall), settings.recall)
    live = LiveIndex(encoder, sets, settings.seal_at)
    names = {base.number: base.public_name for base in registry.bases.list()}
    return {
        "encoder": encoder,
        "base": names.get(encoder.base_view.version) or settings.base.partition("@")[0],
        "live": live,
        "text_queue": TextQueue(encoder, settings, metrics),
        "picture_queue": PictureQueue(encoder, settings, metrics),
        "write_queue": WriteQueue(live, settings),
    }


class RegistryFollower:
    """The tasks that keep an application at what the registry says; closes every context at the end."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._open: list[Context] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[Context] | None = None
        self._not_before = 0.0

    async def __aenter__(self) -> Self:
        await self._begin(self._context)
        settings = self._context.settings
        pause = settings.watch_seconds
        self._start(_repeat(self._follow, lambda: pause, "cannot follow the registry", pause))
        # its `refused_seconds` tell whether anybody can write
        probe, store = self._context.registry.probe, lambda: self._context.unknown_words.store()
        refused = "the registry refuses writes"
        self._start(_repeat(partial(run_in_threadpool, probe), lambda: PROBE_SECONDS, refused))
        if settings.broker_url:
            self._start(probe_broker(self._app))
        words = "the registry does not store words of searches"
        self._start(_repeat(partial(run_in_threadpool, store), lambda: _STORE_SECONDS, words, _STORE_SECONDS))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._opening is not None:  # its thread cannot be stopped
            with contextlib.suppress(Exception):
                await run_in_threadpool(_close, await self._opening)
        for context in list(self._open):
            await self._close(context)
        await run_in_threadpool(self._context.datasets.close)  # which contexts share

    @property
    def _context(self) -> Context:
        context: Context = self._app.state.context
        return context

    async def _follow(self) -> None:
        """Refresh the snapshot; whatever fails, the old one keeps serving.

        Serve another base if need be, which must return soon, or deletions by other processes would stay visible.
        """
        context = self._context
        await run_in_threadpool(context.live.refresh)
        await run_in_threadpool(context.terms.refresh)
        update_metrics(context)
        await self._move()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self) -> None:
        """Serve the base of the release that serves, once that is open here. Raises what opening it raises.

        It is opened in the background, which may take minutes: until then, each call returns at once.
        """
        old = self._context
        release = await run_in_threadpool(old.registry.releases.get_serving)
        if self._opening is None:
            if time.monotonic() >= self._not_before and not await run_in_threadpool(_has_open, old, release):
                _log.info("release %d is for another base or encoding: it is opened", release.number)
                self._not_before = time.monotonic() + _RETRY_SECONDS
                self._opening = asyncio.create_task(run_in_threadpool(_open_context, old))
            return
        if not self._opening.done():
            return
        opening, self._opening = self._opening, None
        new = opening.result()
        if not await run_in_threadpool(_has_open, new, release):  # it has changed again meanwhile
            return await run_in_threadpool(_close, new)
        await self._begin(new)
        try:
            await old.write_queue.run_between_batches(lambda: self._swap(old, new))
        except BaseException:
            await self._close(new)
            raise
        self._not_before = 0.0
        _log.info("base %s is served now, with vectors made by %s", new.base, new.encoder.encoding)
        self._start(self._retire(old))

    def _swap(self, old: Context, new: Context) -> None:
        """Swap the contexts between two writes: `new` has all that was written, and later writes refresh it."""
        new.live.refresh()
        update_metrics(new)
        old.successor = new
        self._app.state.context = new

    async def _retire(self, context: Context) -> None:
        settings = context.settings
        longest = max(settings.upload_seconds, settings.dataset_seconds) + _GRACE
        until = time.monotonic() + longest  # a stream of events may last longer, but needs nothing that is closed
        while context.requests and time.monotonic() < until:
            await asyncio.sleep(0.1)
        await self._close(context)
        del context  # the last that knows it
        await run_in_threadpool(free_closed)

    async def _begin(self, context: Context) -> None:
        self._open.append(context)
        for queue in (context.text_queue, context.picture_queue, context.write_queue):
            await queue.__aenter__()

    async def _close(self, context: Context) -> None:
        self._open.remove(context)
        for queue in (context.write_queue, context.picture_queue, context.text_queue):
            await queue.__aexit__()
        await run_in_threadpool(_close, context)


def _open_context(old: Context) -> Context:
    """Open a context with the base that serves now, and its newest release."""
    encoder = old.open_encoder(old.settings)
    if (encoder.base_view.version, encoder.encoding) == (old.encoder.base_view.version, old.encoder.encoding):
        raise BaseMoved("The base that serves has changed again.")
    parts = build_components(old.settings, old.registry, old.gallery, old.metrics, encoder)
    new = replace(old, **parts, requests=0, successor=None)
    warm_up(new)
    try:
        if not new.live.start():
            raise IndexUnavailable("no release of the other base can be opened")
    except BaseException:
        _close(new)
        raise
    return new


def _has_open(context: Context, release: Release) -> bool:
    """Tell whether a context has the base of a release open, in the encoding that has made the vectors."""
    encoding = context.registry.encodings.find_current()
    return context.encoder.base_view.version == release.base and encoding in (None, context.encoder.encoding)


def warm_up(context: Context) -> None:
    """Encode once: the first call allocates, and takes a hundred times as long."""
    context.encoder.encode_texts([(context.encoder.base_view, "warm-up")])


def _close(context: Context) -> None:
    context.picture_queue.close()
    for end in (context.unknown_words.store, context.live.close):
        with contextlib.suppress(PictoglotError):
            end()


async def probe_broker(app: FastAPI) -> None:
    """Ask the broker every few seconds, forever, whether it takes hints; the context has the answer."""
    context: Context = app.state.context
    from redis import Redis, RedisError  # most services have no broker

    client = Redis.from_url(
        context.settings.broker_url, socket_connect_timeout=_BROKER_SECONDS, socket_timeout=_BROKER_SECONDS
    )

    async def probe() -> None:
        was_down, down = app.state.context.is_broker_down, False
        try:
            await run_in_threadpool(client.ping)
        except RedisError:
            down = True
        app.state.context.is_broker_down = down
        if down and not was_down:
            _log.warning("the broker does not answer")

    await _repeat(probe, lambda: PROBE_SECONDS, "the broker cannot be asked")


async def _repeat(act: _Act, seconds: Callable[[], float], refused: str, pause: float = 0.0) -> None:
    """Act every so many seconds, first after a `pause`. Errors that repeat are logged once; bugs make pauses longer."""
    failing = ""
    while True:
        await asyncio.sleep(pause)
        pause, after, failure = seconds(), pause, ""
        try:
            await act()
        except PictoglotError as error:
            failure = error.code
            if failure != failing:
                _log.warning(refused, extra={"code": error.code, "reason": error.full_detail})
        except Exception as error:  # noqa: BLE001 - a service that stopped following would look healthy
            failure, pause = repr(error), min(2 * max(after, pause), _LONGEST_PAUSE)
            if failure != failing:
                _log.exception("%s: an unexpected error; trying again", refused)
        failing = failure


async def catch_up(context: Context, release: int) -> None:
    """Serve this release or a newer one here before a client reads about it; if that fails, `_follow` tries again.

    A release for another base is served when that is open. All waiting requests share one thread: opening a release may
    take long, and searches need the others.
    """
    context = context.newest
    if _is_behind(context, release):
        await context.lanes.release.run(_refresh_if_behind, context, release)


def _refresh_if_behind(context: Context, release: int) -> None:
    try:
        if _is_behind(context, release):
            context.live.refresh()
    except (Unavailable, StorageFull) as error:
        _log.warning("cannot open the release yet", extra={"release": release, "code": error.code})


def _is_behind(context: Context, release: int) -> bool:
    snapshot = context.live.served
    return snapshot is None or snapshot.release.number < release


def update_metrics(context: Context) -> None:
    """Set the metrics of the served release."""
    if (snapshot := context.live.served) is not None:
        context.metrics.release.set(snapshot.release.number)
        context.metrics.shared.set(snapshot.release.shared)
