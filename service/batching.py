"""Encoding in small batches on one thread: bounded queues, deadlines, a cache of query vectors. Opens no model."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from PIL import Image

from index.decoder import Decoder
from index.encoding import Encoder
from index.engine import Vector
from index.pictures import Picture
from model.errors import Unavailable
from service.metrics import Metrics
from service.settings import Settings

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")


@dataclass
class _Waiting(Generic[T, R]):
    """One item in the queue; its future is done early when the request is gone."""

    item: T
    done: "asyncio.Future[R]"
    deadline: float


class BatchQueue(Generic[T, R]):
    """Turns items into results, `size` at most in one call of `run`, in order, on a thread of its own.

    What waits while a call runs forms the next batch: under light load an item is alone, under heavy load batches grow,
    and nothing ever waits for company.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        size: int,
        limit: int,
        seconds: float,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._size, self._limit, self._seconds = size, limit, seconds
        self._observe = observe
        self._queue: asyncio.Queue[_Waiting[T, R]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
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
        """Whether somebody takes from the queue."""
        return self._task is not None and not self._task.done()

    @property
    def depth(self) -> int:
        """How many items wait."""
        return self._queue.qsize()

    async def __call__(self, items: Sequence[T]) -> list[R]:
        """The results of `items`; raises `Unavailable` at once when too many wait, or when their time is over.

        Cancelling it takes the items out of the queue's way.
        """
        if self._queue.qsize() + len(items) > self._limit:
            raise Unavailable("too many requests are waiting")
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(item, loop.create_future(), loop.time() + self._seconds) for item in items]
        for one in waiting:
            self._queue.put_nowait(one)
        try:
            return [await one.done for one in waiting]
        finally:
            for one in waiting:
                if not one.done.cancel() and not one.done.cancelled():
                    one.done.exception()  # seen: of several that failed together, one is raised

    async def _serve(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._answer([one for one in batch if self._wanted(one)])

    def _wanted(self, one: _Waiting[T, R]) -> bool:
        if one.done.done():
            return False
        if asyncio.get_running_loop().time() > one.deadline:
            one.done.set_exception(Unavailable("the request waited too long"))
            return False
        return True

    async def _answer(self, batch: list[_Waiting[T, R]]) -> None:
        if not batch:
            return
        self._observe(len(batch))
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._run, [one.item for one in batch])
        # A failing encoder fails its batch, not the queue: the exception goes to those who wait for it
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        for place, one in enumerate(batch):
            if one.done.done():
                continue
            if isinstance(outcome, BaseException):
                one.done.set_exception(outcome)
            else:
                one.done.set_result(outcome[place])


class Cache(Generic[K, V]):
    """The last `size` values by key; 0 keeps none. For one thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key: K) -> V | None:
        """The value, which becomes the youngest."""
        if (value := self._kept.get(key)) is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value; the one unused for longest goes when there is no room."""
        if self._size:
            self._kept[key] = value
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)


@dataclass(frozen=True)
class Query:
    """A text as a vector (dimension,); whether it was cut to the encoder's context, and its tokens."""

    vector: Vector
    truncated: bool
    tokens: int


class TextQueue(BatchQueue[tuple[Any, str], Query]):
    """Texts to vectors, each read through the view of a version; vectors of recent texts come from a cache."""

    def __init__(self, encoder: Encoder, settings: Settings, metrics: Metrics) -> None:
        def run(items: Sequence[tuple[Any, str]]) -> list[Query]:
            # one text in a forward pass, so that its vector depends on no other query (decision 8)
            encoded: Any = encoder.texts(items, batch=1)
            return [Query(*one) for one in zip(encoded.vectors, encoded.truncated, encoded.tokens, strict=True)]

        limit, seconds, observe = settings.queue_limit, settings.request_seconds, metrics.batches.labels("text").observe
        super().__init__(run, size=settings.batch_size, limit=limit, seconds=seconds, observe=observe)
        self.cache: Cache[tuple[int, str], Query] = Cache(settings.cache_size)

    async def encode(self, view: Any, texts: Sequence[str]) -> list[Query]:
        """Cleaned texts as `view` reads them, in the order given; raises as a call of the queue."""
        cached = {text: self.cache.get((view.version, text)) for text in dict.fromkeys(texts)}
        queries = {text: query for text, query in cached.items() if query is not None}
        missing = [text for text in cached if text not in queries]
        for text, query in zip(missing, await self([(view, text) for text in missing]), strict=True):
            self.cache.put((view.version, text), query)
            queries[text] = query
        return [queries[text] for text in texts]


class PictureQueue(BatchQueue[Image.Image, Vector]):
    """Pictures to vectors; and, before that, untrusted bytes to pictures, in the guarded processes of a decoder.

    No thread waits for the decoder, so that uploads take none from searches.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, settings: Settings, metrics: Metrics) -> None:
        limit, seconds = settings.queue_limit, settings.request_seconds
        observe = metrics.batches.labels("picture").observe
        super().__init__(
            lambda images: list(encoder.pictures(images)),
            size=settings.batch_size, limit=limit, seconds=seconds, observe=observe,
        )  # fmt: skip
        self._decoder = decoder
        self.decoding = 0  # pictures that wait for the decoder or are in it

    async def decode(self, data: bytes, seconds: float) -> Picture:
        """A decoded picture; raises `Unavailable` when too many wait or `seconds` are over, and as `Decoder.decode`."""
        if self.decoding >= self._limit:
            raise Unavailable("too many pictures are waiting to be decoded")
        self.decoding += 1
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self._decoder.submit(data))
        except TimeoutError as error:
            raise Unavailable("the picture waited too long to be decoded") from error
        finally:
            self.decoding -= 1

    async def encode(self, data: bytes) -> Vector:
        """The vector of an uploaded picture; raises as `decode` and as a call of the queue."""
        picture = await self.decode(data, self._seconds)
        (vector,) = await self([picture.rgb])
        return vector


class WriteQueue(BatchQueue[Callable[[], object], object]):
    """Writes to the gallery, one after the other, as the registry wants it; the others wait here."""

    def __init__(self, settings: Settings) -> None:
        limit, seconds = settings.queue_limit, settings.body_seconds
        super().__init__(lambda jobs: [job() for job in jobs], size=1, limit=limit, seconds=seconds)

    async def write(self, job: Callable[[], R]) -> R:
        """The result of one write; raises as a call of the queue, and what the write raises."""
        (result,) = await self([job])
        return result  # type: ignore[return-value]
