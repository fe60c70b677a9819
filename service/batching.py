"""The bounded queues of a service: texts and pictures to encode, writes to the gallery."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, Generic, ParamSpec, Self, TypeVar

from cachetools import LRUCache
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from index.gallery import NewPicture, PutResult
from index.live import LiveIndex
from index.vectors import Vector
from model.encoder import Encoder, View
from model.pictures import MAX_PIXELS, Decoder, Frame, Picture
from service.metrics import Metrics
from service.settings import Settings
from store.errors import PictoglotError, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
_TEXTS_AT_ONCE = 8  # of one request in the queue: a search waits for a few texts of others, not for hundreds
_UPLOADS_AT_ONCE = 8  # a search by picture waits for one such batch; larger ones are hardly cheaper (decision 25)
_BATCHES = 2  # requests with many pictures: each holds up to 64 MiB in memory
_NICE = 10  # of the thread that encodes uploads, as of the processes that decode them: searches come first
_BODIES = 1 << 30  # bytes of the bodies of one kind of requests that are in memory at once
_FAILURES = (PictoglotError, SQLAlchemyError, OSError, ValueError)
_WRITES_AT_ONCE = 16  # pictures in one transaction, as many as `pictoglot import` sends at a time
_Write = NewPicture | Callable[[], Any]


@dataclass
class _QueueItem(Generic[T, R]):
    """One item in the queue; its future is done when nobody waits any more. The timer ends the wait in the queue."""

    item: T
    result: "asyncio.Future[R]"
    timer: asyncio.TimerHandle


class BatchQueue(Generic[T, R]):
    """A queue whose items become results, in order, at most `size` in one call of `run`, on a thread of its own.

    If `run` raises, every item of the batch fails; if it returns an exception as a result, only that item fails. Items
    that arrive while a call runs form the next batch: under light load an item is alone, under heavy load batches grow,
    and no item waits for others to fill a batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R | Exception]],
        *,
        size: int,
        limit: int,
        seconds: float,
        observe: Callable[[int], None] = lambda size: None,
        nice: int = 0,
    ) -> None:
        """Add `nice` to the niceness of the thread alone, as Linux has one for each thread."""
        self._run = run
        self._size, self._limit, self._seconds = size, limit, seconds
        self._observe = observe
        self._queue: asyncio.Queue[_QueueItem[T, R]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode", initializer=os.nice, initargs=(nice,))
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether the task that empties the queue is running."""
        return self._task is not None and not self._task.done()

    @property
    def depth(self) -> int:
        """How many items wait."""
        return self._queue.qsize()

    async def run_between_batches(self, act: Callable[[], K]) -> K:
        """Return the result of `act`, run on the queue's thread and so while no batch runs."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)

    async def process_items(self, items: Sequence[T]) -> list[R]:
        """Return the results of `items`; raises `Unavailable` when too many wait, or when one waited too long.

        When the call is cancelled, its items are skipped. No item is refused as late once its batch has begun.
        """
        if self._queue.qsize() + len(items) > self._limit:
            raise Unavailable("too many requests are waiting")
        entries = [self._enqueue(item) for item in items]
        try:
            return [await entry.result for entry in entries]
        finally:
            for entry in entries:
                entry.timer.cancel()
                if not entry.result.cancel() and not entry.result.cancelled():
                    entry.result.exception()  # marks it as retrieved: if several failed, only one is raised

    def _enqueue(self, item: T) -> _QueueItem[T, R]:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        entry = _QueueItem(item, result, loop.call_later(self._seconds, _expire, result))
        self._queue.put_nowait(entry)
        return entry

    async def _serve(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            for entry in batch:
                entry.timer.cancel()
            await self._answer([entry for entry in batch if not entry.result.done()])

    async def _answer(self, batch: list[_QueueItem[T, R]]) -> None:
        if not batch:
            return
        self._observe(len(batch))
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._run, [entry.item for entry in batch])
        outcome: Sequence[R | Exception] | Exception
        try:
            outcome = await call
        except Exception as error:  # noqa: BLE001  it fails this batch, not the queue, and goes to the callers
            outcome = error
        for place, entry in enumerate(batch):
            if entry.result.done():
                continue
            result = outcome if isinstance(outcome, Exception) else outcome[place]
            if isinstance(result, Exception):
                entry.result.set_exception(result)
            else:
                entry.result.set_result(result)


def _expire(result: "asyncio.Future[Any]") -> None:
    if not result.done():
        result.set_exception(Unavailable("the request waited too long"))


@dataclass(frozen=True)
class EncodedQuery:
    """A text as a vector (dimension,), whether it was truncated to the encoder's context, and its number of tokens.

    `seconds`: of its batch, by part of the work; empty for a vector from the cache.
    """

    vector: Vector
    truncated: bool
    tokens: int
    seconds: Mapping[str, float] = field(default_factory=dict)


class TextQueue(BatchQueue[tuple[View, str], EncodedQuery]):
    """The queue of texts to encode, each by the view of a version; vectors of recent texts come from a cache."""

    def __init__(self, encoder: Encoder, settings: Settings, metrics: Metrics) -> None:
        def run(items: Sequence[tuple[View, str]]) -> list[EncodedQuery]:
            started = time.perf_counter()
            encoded = encoder.encode_texts(items, alone=True)  # a vector depends on no other query (decision 25)
            encoding = time.perf_counter() - started - encoded.tokenizing_seconds
            seconds = {"tokenise": encoded.tokenizing_seconds, "encode": encoding}
            fields = zip(encoded.vectors, encoded.truncated, encoded.tokens, strict=True)
            return [EncodedQuery(*each, seconds) for each in fields]

        limit, seconds, observe = settings.queue_limit, settings.request_seconds, metrics.batches.labels("text").observe
        super().__init__(run, size=settings.batch_size, limit=limit, seconds=seconds, observe=observe)
        self._cache: LRUCache[tuple[tuple[int, bool], str], EncodedQuery] = LRUCache(settings.cache_size)
        self.hits = self.misses = 0  # of the cache

    async def encode(self, view: View, texts: Sequence[str]) -> list[EncodedQuery]:
        """Encode cleaned texts with `view`, in the same order; raises what `process_items` raises."""
        distinct, key = dict.fromkeys(texts), view.key
        found = ((text, self._cache.get((key, text))) for text in distinct)
        queries = {text: query for text, query in found if query is not None}
        missing = [text for text in distinct if text not in queries]
        self.hits, self.misses = self.hits + len(queries), self.misses + len(missing)
        most = min(_TEXTS_AT_ONCE, self._limit)
        for start in range(0, len(missing), most):
            some = missing[start : start + most]
            for text, query in zip(some, await self.process_items([(view, text) for text in some]), strict=True):
                queries[text] = query
                if self._cache.maxsize:
                    self._cache[key, text] = replace(query, seconds={})
        return [queries[text] for text in texts]


class AdmissionLimit:
    """The number of requests of one kind, `limit` at most, and their bytes: each holds its body in memory."""

    def __init__(self, limit: int, what: str = "pictures are waiting to be decoded", most: int = _BODIES) -> None:
        self.requests = self._bytes = 0
        self._limit, self._content, self._most = limit, what, most

    @contextmanager
    def admit(self, size: int = 0) -> Iterator[None]:
        """Count a request of so many bytes during the block, before its body is read; one is always admitted.

        Raises `Unavailable` when there are too many.
        """
        if self.requests >= self._limit or (self.requests and self._bytes + size > self._most):
            raise Unavailable(f"too many {self._content}")
        self.requests += 1
        self._bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self._bytes -= size


class DecodeQueue(AdmissionLimit):
    """The queue of untrusted bytes that the guarded processes of a decoder turn into pictures.

    The decoder gets only as many pictures as it has processes. The others wait here: no thread waits for them, and when
    a client leaves, its bytes are dropped.
    """

    def __init__(self, processes: int, limit: int, pixels: int = MAX_PIXELS, frame: Frame | None = None) -> None:
        self.decoder = Decoder(processes, pixels=pixels, frame=frame)
        super().__init__(limit)
        self._idle = asyncio.Semaphore(processes)

    async def decode(self, data: bytes, seconds: float) -> Picture:
        """Decode a picture; raises `Unavailable` after `seconds`, and what the decoder raises."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.acquire()
                decoding = self.decoder.submit(data)
                # when the process is done, which may be after the client left
                decoding.add_done_callback(lambda _: loop.call_soon_threadsafe(self._idle.release))
                return await asyncio.wrap_future(decoding)
        except TimeoutError as error:
            raise Unavailable("the picture waited too long to be decoded") from error


class PictureQueue(BatchQueue[Image.Image, Vector]):
    """The queue of pictures to encode, with the decoders that stand before it.

    Uploads have a decoder, a queue and a thread of their own, of lower priority: they delay no search.
    """

    def __init__(self, encoder: Encoder, settings: Settings, metrics: Metrics) -> None:
        def run(images: Sequence[Image.Image]) -> list[Vector]:
            return list(encoder.encode_pictures(images))

        size, limit, observe = settings.batch_size, settings.queue_limit, metrics.batches.labels("picture").observe
        super().__init__(run, size=size, limit=limit, seconds=settings.request_seconds, observe=observe)
        self.uploads = DecodeQueue(settings.decoders, limit, settings.picture_pixels, encoder.frame)
        self.searches = DecodeQueue(1, limit, settings.picture_pixels, encoder.frame)
        self.batches = AdmissionLimit(_BATCHES, "batches are waiting to be decoded")
        self.encode_uploads = BatchQueue(
            run,
            size=min(size, _UPLOADS_AT_ONCE),
            limit=limit,
            seconds=settings.upload_seconds,
            observe=observe,
            nice=_NICE,
        )

    async def __aenter__(self) -> Self:
        await self.encode_uploads.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self.encode_uploads.__aexit__(*error)

    @property
    def alive(self) -> bool:
        """Whether the tasks that empty both queues are running."""
        return super().alive and self.encode_uploads.alive

    @property
    def depth(self) -> int:
        """How many pictures wait to be encoded, of searches and of uploads."""
        return super().depth + self.encode_uploads.depth

    async def encode(self, data: bytes) -> Vector:
        """Return the vector of a picture to search with; raises what `decode` and `process_items` raise."""
        picture = await self.searches.decode(data, self._seconds)
        (vector,) = await self.process_items([picture.rgb])
        return vector

    def close(self) -> None:
        """End the processes of both decoders."""
        self.uploads.decoder.close()
        self.searches.decoder.close()


class WriteQueue(BatchQueue[_Write, Any]):
    """The queue of writes to the gallery: pictures to put, and other changes, on one thread, as the registry requires.

    Pictures that wait at the same time are put in one transaction: it costs the disk hardly more than one of them.
    """

    def __init__(self, live: LiveIndex, settings: Settings) -> None:
        self._live = live
        limit, seconds = settings.queue_limit, settings.upload_seconds
        super().__init__(self._write, size=_WRITES_AT_ONCE, limit=limit, seconds=seconds)

    async def put(self, picture: NewPicture) -> PutResult:
        """Put a picture with `LiveIndex.put_pictures`; raises what that and `process_items` raise."""
        (put,) = await self.process_items([picture])
        assert isinstance(put, PutResult)
        return put

    async def run(self, change: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Make another change and return its result; raises what it and `process_items` raise."""
        (result,) = await self.process_items([partial(copy_context().run, change, *args, **kwargs)])  # whose act it is
        return result  # type: ignore[no-any-return]

    def _write(self, writes: Sequence[_Write]) -> list[Any]:
        outcomes = list[Any]()
        for is_picture, group in groupby(writes, lambda write: isinstance(write, NewPicture)):
            alike: list[Any] = list(group)
            outcomes += self._put(alike) if is_picture else [_try_write(change) for change in alike]
        return outcomes

    def _put(self, pictures: list[NewPicture]) -> list[PutResult | Exception]:
        """Put all together; if that fails, one by one, because one of them may be the reason."""
        together = _try_write(partial(self._live.put_pictures, pictures))
        if not isinstance(together, Exception):
            return list(together)
        if len(pictures) == 1 or isinstance(together, Unavailable):
            return [together] * len(pictures)
        return [outcome for picture in pictures for outcome in self._put([picture])]


def _try_write(write: Callable[[], R]) -> R | Exception:
    try:
        return write()
    except _FAILURES as error:  # it is raised to the one who waits for this write; any other one, to all
        return error
