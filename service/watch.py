"""The tasks that follow the registry: releases and gallery changes that other processes made."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from service.context import Context
from store.errors import IndexUnavailable, PictoglotError, StorageFull, Unavailable

PROBE_SECONDS = 5.0  # between two tries to write; what is refused has waited for 1.5 seconds
_BROKER_SECONDS = 2.0  # that a broker is waited for
_STORE_SECONDS = 60.0  # between two writes of counted words
_LONGEST_PAUSE = 60.0  # seconds, as between two attempts to open a release that could not be opened
_log = logging.getLogger("pictoglot.watch")
_Act = Callable[[], Awaitable[None]]


async def follow(app: FastAPI, move: Callable[[], Awaitable[None]]) -> None:
    """Refresh the snapshot every `watch_seconds`, forever; whatever fails, the old one keeps serving.

    `move` serves another base if need be; it must return soon, or deletions by other processes would stay visible.
    """

    async def refresh() -> None:
        context: Context = app.state.context
        await run_in_threadpool(context.live.refresh)
        await run_in_threadpool(context.terms.refresh)
        update_metrics(context)
        await move()

    def pause() -> float:
        return float(app.state.context.settings.watch_seconds)

    failed = "following the registry failed; trying again"
    await _repeat(refresh, pause, "cannot follow the registry", failed, pause())


async def probe_writes(app: FastAPI) -> None:
    """Try every few seconds, forever, whether anybody can write to the registry: `refused_seconds` of it tells."""

    async def probe() -> None:
        await run_in_threadpool(app.state.context.registry.probe)

    failed = "the probe of the registry failed; trying again"
    await _repeat(probe, lambda: PROBE_SECONDS, "the registry refuses writes", failed, 0.0)


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

    await _repeat(probe, lambda: PROBE_SECONDS, "", "the probe of the broker failed; trying again", 0.0)


async def store_unknown_words(app: FastAPI) -> None:
    """Store every minute, forever, the words of searches that nobody taught."""

    async def store() -> None:
        await run_in_threadpool(app.state.context.unknown_words.store)

    failed = "words of searches could not be stored; trying again"
    await _repeat(
        store, lambda: _STORE_SECONDS, "the registry does not store words of searches", failed, _STORE_SECONDS
    )


async def _repeat(act: _Act, seconds: Callable[[], float], refused: str, failed: str, pause: float) -> None:
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
                _log.exception(failed)
        failing = failure


async def catch_up(context: Context, release: int) -> None:
    """Serve this release or a newer one here before a client reads about it; if that fails, `follow` tries again.

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
    try:
        return context.live.current.release.number < release
    except IndexUnavailable:
        return True


def update_metrics(context: Context) -> None:
    """Set the metrics of the served release."""
    try:
        release = context.live.current.release
    except PictoglotError:
        return
    context.metrics.release.set(release.number)
    context.metrics.shared.set(release.shared)
