"""Everything one running service holds, built once in `app` and handed to every route. Answers no request itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from anyio import CapacityLimiter
from fastapi import Depends, Request
from PIL import Image

from index.decoder import Decoder
from index.encoding import Encoder
from index.engine import Vector
from index.gallery import Gallery
from index.live import LiveIndex
from model.errors import PictoglotError
from model.registry import Registry
from service.auth import Body, Keyring, Principal
from service.batching import BatchQueue, Cache
from service.cursors import Cursors
from service.limits import Rate
from service.metrics import Metrics
from service.settings import Settings

_OVERHEAD = 64 << 10  # bytes of a form beside its file: boundaries, headers, fields
_TEXTS_OVERHEAD = _OVERHEAD + (64 << 10)


@dataclass(frozen=True)
class Query:
    """A text as a vector (dimension,); whether it was cut to the encoder's context, and its tokens."""

    vector: Vector
    truncated: bool
    tokens: int


@dataclass
class Context:
    """The parts. `draining` is set once, at the stop, and never unset."""

    settings: Settings
    registry: Registry
    encoder: Encoder
    gallery: Gallery
    holder: LiveIndex
    decoder: Decoder
    keyring: Keyring
    rate: Rate
    cursors: Cursors
    metrics: Metrics
    cache: Cache[tuple[int, str], Query]
    texts: BatchQueue[tuple[Any, str], Query]
    pictures: BatchQueue[Image.Image, Vector]
    writes: BatchQueue[Callable[[], object], object]
    following: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # who waits for a release to open
    draining: bool = False
    body_limits: dict[Body, tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.body_limits = {
            Body.JSON: (settings.json_bytes, settings.body_seconds),
            Body.PICTURE: (settings.picture_bytes + _TEXTS_OVERHEAD, settings.body_seconds),
            Body.DATASET: (settings.dataset_bytes + _TEXTS_OVERHEAD, settings.dataset_seconds),
        }

    async def encode(self, view: Any, texts: Sequence[str]) -> list[Query]:
        """Cleaned texts as vectors, from the cache where it has them."""
        kept = {text: self.cache.get((view.version, text)) for text in dict.fromkeys(texts)}
        found = {text: query for text, query in kept.items() if query is not None}
        missing = [text for text in kept if text not in found]
        for text, query in zip(missing, await self.texts([(view, text) for text in missing]), strict=True):
            self.cache.put((view.version, text), query)
            found[text] = query
        return [found[text] for text in texts]


def text_queue(encoder: Encoder, settings: Settings, metrics: Metrics) -> BatchQueue[tuple[Any, str], Query]:
    """The lane in which texts are encoded."""

    def run(items: Sequence[tuple[Any, str]]) -> list[Query]:
        # one text a forward pass, so that the vector depends on no other query (decision 8)
        encoded: Any = encoder.texts(items, batch=1)
        _require_finite(encoded.vectors)
        return [Query(*one) for one in zip(encoded.vectors, encoded.truncated, encoded.tokens, strict=True)]

    return _lane(run, settings, lambda size: metrics.batch("text", size))


def picture_queue(encoder: Encoder, settings: Settings, metrics: Metrics) -> BatchQueue[Image.Image, Vector]:
    """The lane in which pictures are encoded."""

    def run(images: Sequence[Image.Image]) -> list[Vector]:
        vectors = encoder.pictures(images)
        _require_finite(vectors)
        return list(vectors)

    return _lane(run, settings, lambda size: metrics.batch("picture", size))


def write_queue(settings: Settings) -> BatchQueue[Callable[[], object], object]:
    """The lane in which the gallery is written: one after the other, as the registry wants it; others wait here."""
    limit, seconds = settings.queue_limit, settings.body_seconds
    return BatchQueue(lambda jobs: [job() for job in jobs], size=1, limit=limit, seconds=seconds)


def _lane(run: Any, settings: Settings, observe: Any) -> BatchQueue[Any, Any]:
    return BatchQueue(
        run, size=settings.batch_size, limit=settings.queue_limit, seconds=settings.request_seconds, observe=observe
    )


def _require_finite(vectors: Any) -> None:
    if not np.isfinite(vectors).all():
        raise PictoglotError("the encoder gave a vector that is not finite")


def context_of(request: Request) -> Context:
    """The context of the application that answers."""
    context: Context = request.app.state.context
    return context


def principal_of(request: Request) -> Principal:
    """Who asks, as the guard found."""
    principal: Principal = request.state.principal
    return principal


Here = Annotated[Context, Depends(context_of)]
Asker = Annotated[Principal, Depends(principal_of)]
