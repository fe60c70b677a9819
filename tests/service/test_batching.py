"""Queues: order, batches, bounds, deadlines, clients that leave; and the cache."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from model.errors import Unavailable
from service.batching import BatchQueue, Cache


class Doubling:
    """Doubles numbers, records the batches, and can be blocked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.free.wait(10)
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


def queue(run: Any, **more: Any) -> BatchQueue[int, int]:
    return BatchQueue(run, **{"size": 4, "limit": 8, "seconds": 5.0, **more})


async def begun(run: Doubling, count: int = 1) -> None:
    while len(run.batches) < count:
        await asyncio.sleep(0.001)


def test_each_result_belongs_to_its_item() -> None:
    async def check() -> None:
        async with queue(Doubling(), limit=1_000) as double:
            results = await asyncio.gather(*(double([n, n + 100]) for n in range(100)))
            assert results == [[2 * n, 2 * n + 200] for n in range(100)]

    asyncio.run(check())


def test_waiting_items_become_one_batch_of_bounded_size() -> None:
    async def check() -> None:
        run = Doubling()
        run.free.clear()
        async with queue(run) as double:
            calls = [asyncio.create_task(double([n])) for n in range(7)]
            await begun(run)
            run.free.set()
            await asyncio.gather(*calls)
        assert max(len(batch) for batch in run.batches) <= 4
        assert [item for batch in run.batches for item in batch] == list(range(7))

    asyncio.run(check())


def test_beyond_the_limit_it_refuses_at_once() -> None:
    async def check() -> None:
        run = Doubling()
        run.free.clear()
        async with queue(run, size=1, limit=2) as double:
            calls = [asyncio.create_task(double([0]))]
            await begun(run)
            calls += [asyncio.create_task(double([n])) for n in (1, 2)]
            await asyncio.sleep(0)
            started = time.perf_counter()
            with pytest.raises(Unavailable):
                await double([3, 4])
            assert time.perf_counter() - started < 0.05
            run.free.set()
            assert await asyncio.gather(*calls) == [[0], [2], [4]]

    asyncio.run(check())


def test_an_item_that_waited_too_long_is_not_encoded() -> None:
    async def check() -> None:
        run = Doubling()
        run.free.clear()
        async with queue(run, size=1, seconds=0.05) as double:
            first = asyncio.create_task(double([1]))
            await begun(run)
            second = asyncio.create_task(double([2]))
            await asyncio.sleep(0.1)
            run.free.set()
            assert await first == [2]
            with pytest.raises(Unavailable):
                await second
        assert run.batches == [[1]]

    asyncio.run(check())


def test_an_item_whose_client_left_is_not_encoded() -> None:
    async def check() -> None:
        run = Doubling()
        run.free.clear()
        async with queue(run, size=1) as double:
            first = asyncio.create_task(double([1]))
            await begun(run)
            left = asyncio.create_task(double([2]))
            await asyncio.sleep(0)
            left.cancel()
            last = asyncio.create_task(double([3]))
            run.free.set()
            assert [await first, await last] == [[2], [6]]
        assert run.batches == [[1], [3]]

    asyncio.run(check())


def test_an_error_reaches_the_callers_and_the_queue_goes_on() -> None:
    async def check() -> None:
        async with queue(Doubling(), size=1) as double:
            with pytest.raises(ValueError, match="minus one"):
                await double([-1, -1])
            assert double.alive
            assert await double([1]) == [2]

    asyncio.run(check())


def test_no_items_make_no_batch() -> None:
    async def check() -> None:
        run = Doubling()
        async with queue(run) as double:
            assert await double([]) == []
        assert run.batches == []

    asyncio.run(check())


def test_the_cache_keeps_the_last_used() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert (cache.hits, cache.misses) == (3, 1)


def test_a_cache_of_size_zero_keeps_nothing() -> None:
    cache: Cache[str, int] = Cache(0)
    cache.put("a", 1)
    assert cache.get("a") is None
