"""Embeddings in OpenAI's format, for clients that know no other. Searches nothing."""

import base64

from fastapi import APIRouter, Request

from index.engine import Vector
from model.text import clean
from service import bodies
from service.auth import GuardedRoute, needs
from service.batching import Query
from service.bodies import unless_client_leaves
from service.context import AppContext
from service.openapi import taking
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)


@router.post("", openapi_extra=taking(json=schemas.EmbeddingsRequest))
@needs("search")
async def embed(request: Request, context: AppContext) -> schemas.Embeddings:
    """Unit vectors of texts; with `language` `auto`, each text is encoded by the version of its own language."""
    body = await bodies.read_json(request, schemas.EmbeddingsRequest)
    snapshot = context.live.current
    texts = [clean(text) for text in ([body.input] if isinstance(body.input, str) else body.input)]
    items = [(snapshot.route(body.language, text).view, text) for text in texts]

    async def encode() -> list[Query]:
        return [query for view, text in items for query in await context.texts.encode(view, [text])]

    queries = await unless_client_leaves(request, encode())
    tokens = sum(query.tokens for query in queries)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=index, embedding=_encoded(query.vector, body.encoding_format))
            for index, query in enumerate(queries)
        ],
        model=f"pictoglot/{context.settings.base.partition('@')[0]}",
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _encoded(vector: Vector, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
