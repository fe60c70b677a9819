"""Follows the registry: new releases and changes of the gallery that other processes made. Makes none itself."""

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from model.errors import PictoglotError
from service.context import Context

_log = logging.getLogger("pictoglot.watch")


async def follow(context: Context) -> None:
    """Bring the snapshot up to date every `watch_seconds`, for ever; what fails leaves the old one serving."""
    failing = ""
    while True:
        await asyncio.sleep(context.settings.watch_seconds)
        try:
            await run_in_threadpool(context.holder.refresh)
            failing = ""
        except PictoglotError as error:
            if error.code != failing:  # once, not twice a second
                _log.warning("cannot follow", extra={"code": error.code, "reason": error.detail})
            failing = error.code
        note(context)


def note(context: Context) -> None:
    """Tell the metrics what serves."""
    try:
        release = context.holder.current.release
    except PictoglotError:
        return
    context.metrics.served(release.number, release.shared)
