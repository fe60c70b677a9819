"""Embeddings in OpenAI's format, for clients that know no other. Searches nothing."""

import base64
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from index.engine import Vector
from model.text import clean
from service import bodies
from service.auth import GuardedRoute, needs
from service.batching import Query
from service.bodies import unless_client_leaves
from service.context import AppContext, Context
from service.openapi import taking
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)


@router.post("", response_model=schemas.Embeddings, openapi_extra=taking(json=schemas.EmbeddingsRequest))
@needs("search")
async def embed(request: Request, context: AppContext) -> Response:
    """Unit vectors of texts; with `language` `auto`, each text is encoded by the version of its own language."""
    body = await bodies.read_json(request, schemas.EmbeddingsRequest)
    snapshot = context.live.current

    def read() -> list[tuple[Any, str]]:
        texts = [clean(text) for text in ([body.input] if isinstance(body.input, str) else body.input)]
        return [(snapshot.route(body.language, text).view, text) for text in texts]

    items = await to_thread.run_sync(read, limiter=context.searching)
    queries = await unless_client_leaves(request, _encoded(items, context))
    return await context.answer(lambda: _answer(queries, body.encoding_format, context.settings.base))


async def _encoded(items: list[tuple[Any, str]], context: Context) -> list[Query]:
    """One query for each item, in order; all texts of one view together."""
    by_view: dict[int, list[tuple[Any, str]]] = {}
    for view, text in items:
        by_view.setdefault(view.version, []).append((view, text))
    queries: dict[tuple[int, str], Query] = {}
    for version, group in by_view.items():
        texts = [text for _, text in group]
        encoded = await context.texts.encode(group[0][0], texts)
        queries |= {(version, text): query for text, query in zip(texts, encoded, strict=True)}
    return [queries[view.version, text] for view, text in items]


def _answer(queries: list[Query], encoding_format: str, base: str) -> schemas.Embeddings:
    tokens = sum(query.tokens for query in queries)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=index, embedding=_numbers(query.vector, encoding_format))
            for index, query in enumerate(queries)
        ],
        model=f"pictoglot/{base.partition('@')[0]}",
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _numbers(vector: Vector, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
