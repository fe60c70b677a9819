"""Reads the registry in threads of its own, and waits only so long: one that hangs takes no thread of searches."""

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from store.errors import RegistryUnavailable

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple["Future[Any]", Callable[[], Any]]


class Reading:
    """Some threads, which a registry that hangs may take. Thread-safe.

    Not those of `concurrent.futures`: a process waits for these when it ends.
    """

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        for _ in range(threads):
            Thread(target=_serve, args=(self._work,), daemon=True, name="reading").start()
        weakref.finalize(self, _end, self._work, threads)

    def now(self, seconds: float, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `read` returns; raises `RegistryUnavailable` after so many seconds, and what `read` raises."""
        future = self._submit(lambda: read(*args, **kwargs))
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise RegistryUnavailable("The registry takes too long.") from None

    async def wait(self, seconds: float, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `now`, from the event loop."""
        return await _in_time(seconds, self._submit(lambda: read(*args, **kwargs)))

    async def wait_in(
        self, place: asyncio.Semaphore, seconds: float, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `wait`, in a place that was taken: it is free again when no thread reads, which may be later."""
        loop, future = asyncio.get_running_loop(), self._submit(lambda: read(*args, **kwargs))
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(place.release))
        return await _in_time(seconds, future)

    def _submit(self, read: Callable[[], T]) -> "Future[T]":
        future = Future[T]()
        self._work.put((future, read))
        return future


async def _in_time(seconds: float, future: "Future[T]") -> T:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except TimeoutError:
        raise RegistryUnavailable("The registry takes too long.") from None


def _serve(work: "SimpleQueue[_Work | None]") -> None:
    while (given := work.get()) is not None:
        future, read = given
        if future.set_running_or_notify_cancel():  # otherwise nobody waits any more
            try:
                future.set_result(read())
            except Exception as error:  # noqa: BLE001  for whoever waits
                future.set_exception(error)
        del given, future, read  # what they hold may be large, and the next wait long


def _end(work: "SimpleQueue[_Work | None]", threads: int) -> None:
    for _ in range(threads):
        work.put(None)
