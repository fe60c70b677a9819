"""Embeddings in OpenAI's shape, for clients that know no other. Searches nothing."""

import base64

from fastapi import APIRouter, Request

from index.engine import Vector
from model.text import clean
from service import bodies
from service.auth import GuardedRoute, needs
from service.batching import Query
from service.bodies import unless_left
from service.context import Here
from service.openapi import taking
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)


@router.post("", openapi_extra=taking(json=schemas.EmbeddingsRequest))
@needs("search")
async def embed(request: Request, context: Here) -> schemas.Embeddings:
    """Unit vectors of texts, each read by its own language's version when `language` is `auto`."""
    body = await bodies.read_json(request, schemas.EmbeddingsRequest)
    snapshot = context.live.current
    texts = [clean(text) for text in ([body.input] if isinstance(body.input, str) else body.input)]
    items = [(snapshot.route(body.language, text).view, text) for text in texts]

    async def encoded() -> list[Query]:
        return [query for view, text in items for query in await context.texts.encode(view, [text])]

    queries = await unless_left(request, encoded())
    tokens = sum(query.tokens for query in queries)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=place, embedding=_written(query.vector, body.encoding_format))
            for place, query in enumerate(queries)
        ],
        model=f"pictoglot/{context.settings.base.partition('@')[0]}",
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _written(vector: Vector, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
