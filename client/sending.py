"""Sends pictures to a service, several at a time, and waits while it is busy. Decides nothing about them."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, TypeVar

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .client import at

AT_ONCE = 16  # requests: fewer than the service lets wait, enough for a batch
_ATTEMPTS = 8  # requests for one picture while the service is busy, or restarts: about a minute
_BUSY = (429, 503)
_LONGEST_PAUSE = 30.0  # seconds
T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """Somebody set `stopping`: nothing more is sent."""


def put(
    client: httpx.Client,
    id: str,
    picture: tuple[str, bytes | IO[bytes], str],
    captions: Mapping[str, Sequence[str]],
    fields: Mapping[str, str] | None = None,
    stopping: threading.Event | None = None,
) -> httpx.Response:
    """The response to one picture (file name, content, media type) with its captions by language; none are kept.

    `fields` are other fields of the form. Otherwise as `patiently`.
    """
    form = {"captions": json.dumps(captions, ensure_ascii=False)} if captions else {}
    form |= fields or {}

    def send() -> httpx.Response:
        if not isinstance(picture[1], bytes):
            picture[1].seek(0)
        return client.put(at("/v1/pictures", id), data=form, files={"picture": picture})

    return patiently(send, stopping)


def patiently(send: Callable[[], httpx.Response], stopping: threading.Event | None = None) -> httpx.Response:
    """The response to a request that may be repeated: it is, while the service is busy or breaks off the connection.

    Raises `Stopped` before a request when `stopping` is set, also while it waits.
    """
    pause(0.0, stopping)
    for attempt in range(1, _ATTEMPTS):
        seconds = 0.25 * 2**attempt
        with suppress(httpx.TransportError):
            response = send()
            if response.status_code not in _BUSY:
                return response
            asked = response.headers.get("Retry-After", "")
            seconds = float(asked) if asked.isdecimal() else seconds
        pause(min(seconds, _LONGEST_PAUSE), stopping)
    return send()


def pause(seconds: float, stopping: threading.Event | None) -> None:
    """Wait; raises `Stopped` at once when `stopping` is set."""
    if stopping is None:
        time.sleep(seconds)
    elif stopping.wait(seconds):
        raise Stopped


def in_order(
    work: Callable[[T], R], items: Iterable[T], at_once: int = AT_ONCE, stopping: threading.Event | None = None
) -> Iterator[tuple[T, R]]:
    """Each item with what `work` makes of it, in order; `at_once` are worked on at a time, each in a thread.

    `items` are taken one by one, as they are needed. An exception of `work` comes out here, and ends it:
    `stopping` is set then, before waiting for what the threads are at.
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= at_once:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        except BaseException:
            if stopping is not None:
                stopping.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def progress(console: Console | None = None, *, quiet: bool = False) -> Progress:
    """A progress bar with how many are done, how many in a second, and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet)


class _Rate(ProgressColumn):
    """Pictures a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")
