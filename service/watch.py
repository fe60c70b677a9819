"""Follows the registry: new releases and changes of the gallery that other processes made. Makes none itself."""

import asyncio
import logging

from anyio import to_thread
from starlette.concurrency import run_in_threadpool

from index.errors import IndexUnavailable
from model.errors import PictoglotError, StorageFull, Unavailable
from service.context import Context

_log = logging.getLogger("pictoglot.watch")


async def follow(context: Context) -> None:
    """Bring the snapshot up to date every `watch_seconds`, for ever; what fails leaves the old one serving."""
    failing = ""
    while True:
        await asyncio.sleep(context.settings.watch_seconds)
        try:
            await run_in_threadpool(context.live.refresh)
            failing = ""
        except PictoglotError as error:
            if error.code != failing:  # once, not twice a second
                _log.warning("cannot follow", extra={"code": error.code, "reason": error.detail})
            failing = error.code
        note(context)


async def catch_up(context: Context, release: int) -> None:
    """Serve this release here, or a younger one, before anybody is told of it; what fails, `follow` tries again.

    One thread for all who wait: opening a release may take long, and searches need the others.
    """
    if _behind(context, release):
        await to_thread.run_sync(_catch_up, context, release, limiter=context.following)


def _catch_up(context: Context, release: int) -> None:
    try:
        if _behind(context, release):
            context.live.refresh()
    except (Unavailable, StorageFull) as error:
        _log.warning("cannot follow", extra={"release": release, "code": error.code})


def _behind(context: Context, release: int) -> bool:
    try:
        return context.live.current.release.number < release
    except IndexUnavailable:
        return True


def note(context: Context) -> None:
    """Tell the metrics what serves."""
    try:
        release = context.live.current.release
    except PictoglotError:
        return
    context.metrics.release.set(release.number)
    context.metrics.shared.set(release.shared)
