"""Embeddings in OpenAI's shape, for clients that know no other. Searches nothing."""

import base64

from fastapi import APIRouter, Request

from index.engine import Vector
from model.text import clean
from service import bodies
from service.auth import GuardedRoute, Scope, needs
from service.context import Here, Query
from service.documents import taking
from service.language import SHARED, choose
from service.presence import unless_left
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)


@router.post("", openapi_extra=taking(json=schemas.EmbeddingsRequest))
@needs(Scope.SEARCH)
async def embed(request: Request, context: Here) -> schemas.Embeddings:
    """Unit vectors of texts, each read by its own language's version when `language` is `auto`."""
    asked = await bodies.read_json(request, schemas.EmbeddingsRequest)
    snapshot = context.holder.current
    texts = [clean(text) for text in ([asked.input] if isinstance(asked.input, str) else asked.input)]
    items = []
    for text in texts:
        choice = choose(asked.language, text, snapshot.release.languages, snapshot.detector)
        items.append((snapshot.shared_view if choice.used == SHARED else snapshot.views[choice.used], text))

    async def encoded() -> list[Query]:
        return [query for view, text in items for query in await context.encode(view, [text])]

    queries = await unless_left(request, encoded())
    tokens = sum(query.tokens for query in queries)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=place, embedding=_written(query.vector, asked.encoding_format))
            for place, query in enumerate(queries)
        ],
        model=f"pictoglot/{context.settings.base.partition('@')[0]}",
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _written(vector: Vector, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
