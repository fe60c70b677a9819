"""The lanes of slow work: threads by kind, so that none of it takes the threads that searches need."""

import asyncio
import math
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from store.errors import RegistryUnavailable, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple["Future[Any]", Callable[[], Any]]
DATASET_CHECKS = 2  # of datasets at once
_HIT_SECONDS = 0.5  # that a search waits for the records of its hits
_OPTIONAL_SECONDS = 1.0  # that a search by meaning waits for what its words find, which nobody asked for by name
_READ_SECONDS = 6.0  # that a request waits for the registry; longer than PostgreSQL may take for a filter
_TURN_SECONDS = 2.0  # that a request waits for others of its kind, before its own time begins
_TOO_LONG = "The registry takes too long."
AWAY_SECONDS = 5.0  # for which nobody asks a registry that did not answer for what a search can do without


class Lane:
    """Some threads for one kind of work, whose result is waited for `seconds` at most. Thread-safe.

    Not those of `concurrent.futures`: a process waits for these when it ends, and a registry that hangs may hold ours.
    """

    def __init__(self, name: str, threads: int, seconds: float | None = None, busy: str = "") -> None:
        self.seconds, self.turn_seconds, self._busy = seconds, _TURN_SECONDS, busy
        self._away_until, self._threads = -math.inf, threads
        self._late = set[Future[Any]]()  # works that nobody waits for any more, and that hold a thread
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        for _ in range(threads):
            Thread(target=_work_off, args=(self._work,), daemon=True, name=f"lane {name}").start()
        weakref.finalize(self, _end_threads, self._work, threads)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns; raise what it raises, or `RegistryUnavailable` when it takes too long.

        A lane with a `busy` sentence raises `Unavailable` with that when the work has not begun after `turn_seconds`.
        """
        future = self._submit(partial(work, *args, **kwargs))
        result = asyncio.wrap_future(future)
        try:
            if self._busy:
                await asyncio.wait([result], timeout=self.turn_seconds)
                if future.cancel():  # it has not begun
                    raise Unavailable(self._busy)
            return await asyncio.wait_for(result, self.seconds)
        except TimeoutError:
            return self._end_late(future)
        finally:
            result.cancel()  # who waited for a turn may have left

    async def try_to_run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what `run` does; None when that takes too long, or while the registry does not answer.

        It is then not asked for some seconds if it said so, and otherwise as long as it holds every thread.
        """
        if time.monotonic() >= self._away_until and len(self._late) < self._threads:
            try:
                return await self.run(work, *args, **kwargs)
            except RegistryUnavailable as error:
                if error.detail != _TOO_LONG:
                    self._away_until = time.monotonic() + AWAY_SECONDS
        return None

    def run_blocking(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in this lane and block the calling thread until it is done; raises what `run` raises."""
        future = self._submit(partial(work, *args, **kwargs))
        try:
            return future.result(self.seconds)
        except TimeoutError:
            return self._end_late(future)

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        future = Future[T]()
        self._work.put((future, partial(copy_context().run, work)))  # whose act it is
        return future

    def _end_late(self, future: "Future[T]") -> T:
        """Give up work that takes too long; what has ended, perhaps with a disk's `TimeoutError`, ends as it did."""
        if not future.cancel():  # it has begun
            if future.done():
                return future.result()
            self._late.add(future)
            future.add_done_callback(self._late.discard)
        raise RegistryUnavailable(_TOO_LONG) from None


def _work_off(queue: "SimpleQueue[_Work | None]") -> None:
    while (item := queue.get()) is not None:
        future, work = item
        if future.set_running_or_notify_cancel():  # otherwise nobody waits any more
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001  for whoever waits
                future.set_exception(error)
        del item, future, work  # what they hold may be large, and the next wait long


def _end_threads(queue: "SimpleQueue[_Work | None]", threads: int) -> None:
    for _ in range(threads):
        queue.put(None)


class Lanes:
    """Every lane by name, and how many threads it has.

    No search, and no reading of pictures, that asks no filter, facets or words ever waits for one that does; and words
    alone, of a key for all collections, wait for no filter.
    """

    def __init__(self) -> None:
        self.search = Lane("search", 8)  # scans, and answers made of what they find
        self.hits = Lane("hits", 4, _HIT_SECONDS)  # records of hits
        self.filter = Lane("filter", 4, _READ_SECONDS)  # filters and facets, and words among what they leave
        self.words = Lane("words", 4, _READ_SECONDS)
        self.optional_words = Lane("optional words", 4, _OPTIONAL_SECONDS)  # words, where meaning would do
        self.read = Lane("read", 4, _READ_SECONDS)  # all else that is asked of the registry
        self.duplicates = Lane("duplicates", 1, _READ_SECONDS, "others are looking for duplicates; try again later")
        self.asking = Lane("asking", 1, None, "others ask for words; try again later")  # ten seconds at most
        self.batch = Lane("batch", 2)  # what is said of many pictures: soon done
        self.dataset = Lane("dataset", DATASET_CHECKS)  # checks of datasets, which take minutes
        self.release = Lane("release", 1)  # opening a new one
        self.batch_reads = asyncio.Semaphore(2)  # searches of all batches that take a thread of `filter` or `words`
