"""Puts the demo gallery into a running service over HTTP, several pictures at a time; pictures already there stay."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo.gallery import DemoPicture, outlines, pictures
from service.cli.client import proxied
from service.cli.demo import FILLING, write_filling

IN_FLIGHT = 8  # requests
_PAGE = 100  # pictures per request when listing the gallery
_TIMEOUT = 60.0  # seconds
_ATTEMPTS = 5  # requests for one picture while the service is busy (429, 503)
_LONGEST_PAUSE = 30.0  # seconds
_BEAT = 1.0  # seconds between two writes of the progress file


async def fill(url: str, key: str, transport: httpx.AsyncBaseTransport | None = None, home: Path | None = None) -> int:
    """Put every missing picture of the gallery; returns their number. Raises `httpx.HTTPError` when refused.

    While it runs, a file under `home`, the data root, says how far it is: `pictoglot learn` waits for it.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=proxied(url)
    ) as client:
        there = {id_ async for id_ in _ids(client)}
        missing = pictures(without=there)
        total = sum(outline.id not in there for outline in outlines())
        present = len(outlines()) - total
        with _progress() as progress:
            bar = progress.add_task("Pictures", total=total)
            drawing = asyncio.Lock()

            async def work() -> None:
                while (picture := await _next(missing, drawing)) is not None:
                    await _put(client, picture)
                    progress.advance(bar)

            async with _told(home, lambda: present + int(progress.tasks[0].completed)), asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(work())
    return total


@contextlib.asynccontextmanager
async def _told(home: Path | None, done: Callable[[], int]) -> AsyncIterator[None]:
    """Write the progress file every second, also while the service is busy; remove it at the end."""
    if home is None:
        yield
        return

    async def beat() -> None:
        while True:
            with contextlib.suppress(OSError):  # a full disk is no reason to stop filling
                write_filling(home, done(), len(outlines()))
            await asyncio.sleep(_BEAT)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        (home / FILLING).unlink(missing_ok=True)


async def _ids(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """Ids of all pictures in the service, page after page."""
    query: dict[str, str | int] = {"limit": _PAGE}
    while True:
        response = await client.get("/v1/pictures", params=query)
        page = response.raise_for_status().json()
        for item in page["items"]:
            yield item["id"]
        if not page["next_cursor"]:
            return
        query["cursor"] = page["next_cursor"]


async def _next(missing: Iterator[DemoPicture], drawing: asyncio.Lock) -> DemoPicture | None:
    """The next picture, drawn in a thread; the lock is there because a generator has one caller at a time."""
    async with drawing:
        return await asyncio.to_thread(next, missing, None)


async def _put(client: httpx.AsyncClient, picture: DemoPicture) -> None:
    files = {"picture": (f"{picture.id}.png", picture.content, "image/png")}
    data = {"captions": json.dumps(picture.captions)}
    for attempt in range(1, _ATTEMPTS + 1):
        response = await client.put(f"/v1/pictures/{picture.id}", files=files, data=data)
        if response.status_code not in (429, 503) or attempt == _ATTEMPTS:
            response.raise_for_status()
            return
        await asyncio.sleep(_pause(response, attempt))


def _pause(response: httpx.Response, attempt: int) -> float:
    """Seconds to wait: what the service says, or twice as long each time."""
    retry_after = response.headers.get("Retry-After", "")
    return min(float(retry_after) if retry_after.isdecimal() else 0.25 * 2**attempt, _LONGEST_PAUSE)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
