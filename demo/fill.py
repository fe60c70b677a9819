"""Puts the demo gallery into a running service over HTTP, several pictures at a time; what is there already stays."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo.gallery import DemoPicture, outlines, pictures
from service.cli.client import proxied

IN_FLIGHT = 8  # requests
_PAGE = 100  # pictures a request when asking what is there
_TIMEOUT = 60.0  # seconds
_ATTEMPTS = 5  # a service that is busy (429, 503) is asked again this often
_LONGEST_PAUSE = 30.0  # seconds


async def fill(url: str, key: str, transport: httpx.AsyncBaseTransport | None = None) -> int:
    """Put every missing picture of the gallery; returns how many that were. Raises `httpx.HTTPError` when refused."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=proxied(url)
    ) as client:
        there = {id_ async for id_ in _ids(client)}
        missing = pictures(without=there)
        total = sum(outline.id not in there for outline in outlines())
        with _progress() as progress:
            bar = progress.add_task("Pictures", total=total)
            drawing = asyncio.Lock()

            async def work() -> None:
                while (picture := await _next(missing, drawing)) is not None:
                    await _put(client, picture)
                    progress.advance(bar)

            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(work())
    return total


async def _ids(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """Ids of every picture in the service, page after page."""
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
    """The next picture, drawn beside the event loop; a generator can only be asked by one at a time."""
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
    """Seconds: what the service asks for, or twice as long each time."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked) if asked.isdecimal() else 0.25 * 2**attempt, _LONGEST_PAUSE)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
