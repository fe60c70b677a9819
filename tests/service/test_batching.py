"""Queues: order, batches, bounds, deadlines, clients that leave; and the cache."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from model.base import open_base
from model.encoder import Encoder
from model.pictures import read_rgb
from service.batching import BatchQueue, DecodeQueue, PictureQueue, TextQueue
from service.metrics import Metrics
from service.settings import Settings
from store.errors import Unavailable
from tests.doubles import StalledEncoder, WeightlessEncoder
from tests.patience import PATIENCE, bound_time, count_unread
from tests.service.harness import motif, picture, settings_with
from tests.tiny import write_tiny_base

pytestmark = pytest.mark.anyio
PATIENT = Settings(request_seconds=PATIENCE)


class Doubling:
    """Doubles numbers, records the batches, and can be blocked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.free.wait(PATIENCE)
        if -1 in items:
            raise ValueError("minus one")
        return [2 * item for item in items]


def queue(run: Any, **more: Any) -> BatchQueue[int, int]:
    return BatchQueue(run, **{"size": 4, "limit": 8, "seconds": PATIENCE, **more})


async def wait_for_batches(run: Doubling, count: int = 1) -> None:
    while len(run.batches) < count:
        await asyncio.sleep(0.001)


async def test_each_result_belongs_to_its_item() -> None:
    async with queue(Doubling(), limit=1_000) as double:
        results = await asyncio.gather(*(double([n, n + 100]) for n in range(100)))
        assert results == [[2 * n, 2 * n + 200] for n in range(100)]


async def test_waiting_items_become_one_batch_of_bounded_size() -> None:
    run = Doubling()
    run.free.clear()
    async with queue(run) as double:
        calls = [asyncio.create_task(double([n])) for n in range(7)]
        await wait_for_batches(run)
        run.free.set()
        await asyncio.gather(*calls)
    assert max(len(batch) for batch in run.batches) <= 4
    assert [item for batch in run.batches for item in batch] == list(range(7))


async def test_beyond_the_limit_it_refuses_at_once() -> None:
    run = Doubling()
    run.free.clear()
    async with queue(run, size=1, limit=2) as double:
        calls = [asyncio.create_task(double([0]))]
        await wait_for_batches(run)
        calls += [asyncio.create_task(double([n])) for n in (1, 2)]
        await asyncio.sleep(0)
        with bound_time(1), pytest.raises(Unavailable):
            await double([3, 4])
        run.free.set()
        assert await asyncio.gather(*calls) == [[0], [2], [4]]


async def test_an_item_that_waited_too_long_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Doubling()
    run.free.clear()
    async with queue(run, size=1) as double:
        first = asyncio.create_task(double([1]))
        await wait_for_batches(run)
        monkeypatch.setattr(double, "_seconds", 0.05)
        with pytest.raises(Unavailable):
            await double([2])  # answered in time, although the first one still runs
        assert not first.done()  # what has begun is not answered as too late
        run.free.set()
        assert await first == [2]
    assert run.batches == [[1]]


async def test_an_item_whose_client_left_is_not_encoded() -> None:
    run = Doubling()
    run.free.clear()
    async with queue(run, size=1) as double:
        first = asyncio.create_task(double([1]))
        await wait_for_batches(run)
        left = asyncio.create_task(double([2]))
        await asyncio.sleep(0)
        left.cancel()
        last = asyncio.create_task(double([3]))
        run.free.set()
        assert [await first, await last] == [[2], [6]]
    assert run.batches == [[1], [3]]


async def test_an_error_reaches_the_callers_and_the_queue_goes_on() -> None:
    async with queue(Doubling(), size=1) as double:
        with pytest.raises(ValueError, match="minus one"):
            await double([-1, -1])
        assert double.alive
        assert await double([1]) == [2]


async def test_no_items_make_no_batch() -> None:
    run = Doubling()
    async with queue(run) as double:
        assert await double([]) == []
    assert run.batches == []


async def test_hundreds_of_texts_are_encoded_a_few_at_a_time() -> None:
    encoder, metrics = StalledEncoder(), Metrics()
    encoder.stall()
    async with TextQueue(encoder, settings_with(queue_limit=16)(request_seconds=PATIENCE), metrics) as texts:
        many = asyncio.create_task(texts.encode(encoder.base_view, [f"text {n}" for n in range(200)]))
        while not encoder.seen:
            await asyncio.sleep(0.001)
        search = asyncio.create_task(texts.encode(encoder.base_view, ["a search"]))
        while texts.depth == 0:
            await asyncio.sleep(0.001)
        encoder.cue.set()
        (query,) = await search
        assert query.tokens == 4
        assert not many.done() and encoder.seen.index("a search") < 50
        assert len(await many) == 200
    assert 'pictoglot_batch_size_count{kind="text"} 2' in metrics.render().decode()  # 25 and more, not 200


class Noting(WeightlessEncoder):
    """Notes for each call with pictures how many they are and how nice the thread is; can be blocked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.free = threading.Event()

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Any:
        self.calls.append((len(images), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        if len(self.calls) == 1:
            assert self.free.wait(PATIENCE)
        return super().encode_pictures(images, batch)


async def test_uploads_are_encoded_in_batches_on_a_nice_thread_and_searches_on_another() -> None:
    encoder, own = Noting(), os.getpriority(os.PRIO_PROCESS, 0)
    images = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(20)]
    async with PictureQueue(encoder, PATIENT, Metrics()) as pictures:
        try:
            calls = [asyncio.create_task(pictures.encode_uploads([image])) for image in images]
            while not encoder.calls:
                await asyncio.sleep(0.001)
            assert pictures.depth == 12
            assert (await pictures.encode(picture())).shape == (encoder.dimension,)  # while uploads are blocked
            assert encoder.calls == [(8, own + 10), (1, own)]
            encoder.free.set()
            vectors = [vector for (vector,) in await asyncio.gather(*calls)]
            assert np.array_equal(vectors, encoder.encode_pictures(images))
            assert encoder.calls[2:4] == [(8, own + 10), (4, own + 10)]
            assert pictures.depth == 0 and pictures.alive
        finally:
            encoder.free.set()
            pictures.close()
    assert not pictures.alive


async def test_a_picture_has_the_vector_of_the_whole_although_it_is_framed_where_it_is_decoded(tmp_path: Path) -> None:
    encoder, file = Encoder(open_base(write_tiny_base(tmp_path), "cpu")), BytesIO()
    motif(3, 90).crop((0, 0, 90, 50)).save(file, "PNG")
    data = file.getvalue()
    async with PictureQueue(encoder, PATIENT, Metrics()) as pictures:
        try:
            uploaded = await pictures.uploads(data, PATIENCE)
            assert (uploaded.rgb.size, uploaded.size) == ((32, 32), (90, 50))
            (stored,) = await pictures.encode_uploads([uploaded.rgb])
            vectors = [stored, await pictures.encode(data), encoder.encode_pictures([read_rgb(data)])[0]]
            assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[1], vectors[2])
        finally:
            pictures.close()


class Watched(bytes):
    """Notes when it is dropped."""

    dropped: ClassVar[list[bytes]] = []

    def __del__(self) -> None:
        self.dropped.append(bytes(self))


async def test_the_bytes_of_a_client_that_left_are_dropped() -> None:
    decode = DecodeQueue(processes=1, limit=8)
    try:
        await decode(picture(), PATIENCE)
        (pid,) = decode.decoder.pids
        os.kill(pid, signal.SIGSTOP)
        calls = [asyncio.create_task(decode(Watched(picture(seed)), PATIENCE)) for seed in range(4)]
        while not count_unread(pid):  # the first one is on its way
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        del calls, call
        await asyncio.sleep(0)  # the loop itself still holds the last result
        gc.collect()
        assert sorted(Watched.dropped) == sorted(picture(seed) for seed in range(1, 4))
        os.kill(pid, signal.SIGCONT)
        assert (await decode(picture(9), PATIENCE)).rgb.size == (48, 48)
    finally:
        decode.decoder.close()
