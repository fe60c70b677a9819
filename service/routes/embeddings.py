"""The routes of embeddings and models in OpenAI's format, for clients that know no other."""

import base64
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from index.snapshot import Route, Snapshot
from index.vectors import Vector
from model.table import View
from model.text import clean
from service.auth import AppContext, GuardedRoute, require_scope
from service.batching import EncodedQuery
from service.context import Context
from service.forms import BodyKind, make_too_large
from service.problems import refuse
from service.requests import run_unless_client_leaves
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/embeddings", tags=["search"], route_class=GuardedRoute)
models_router = APIRouter(prefix="/v1/models", tags=["search"], route_class=GuardedRoute)
_PICTURE = "data:image/"  # how a picture among the inputs begins; a text as long as one would be refused anyway
_BASE64 = ";base64"
_Input = bytes | tuple[Route, str]
_MOST_PICTURES = 16  # in one request: they are decoded one after another


@dataclass(frozen=True)
class _EmbeddedInput:
    """The vector of one input; of a text, how many tokens it has, and in which language it was read."""

    vector: Vector
    tokens: int = 0
    language: str | None = None


@router.post("", response_model=schemas.Embeddings)
@require_scope("search", BodyKind.PICTURES_IN_JSON, allows_bound_keys=True)
async def embed(body: schemas.EmbeddingsRequest, request: Request, context: AppContext) -> Response:
    """Unit vectors of texts and pictures; with `language` `auto`, each text is encoded by its own language's version.

    A picture among the inputs is a data URL in base64; with a form, one file is sent instead.
    """
    snapshot = context.live.current
    inputs: list[_Input] = request.state.files
    if bool(body.input) == bool(inputs):
        refuse("body.input", "missing", "send either `input` or a picture")
    with ExitStack() as place:
        if body.input:
            most = context.settings.picture_bytes
            inputs = await context.lanes.search.run(_read_inputs, body.input, body.language, snapshot, most)
            small = 0 < request.state.body.declared <= context.settings.json_bytes  # else it has a place already
            if small and any(isinstance(item, bytes) for item in inputs):
                place.enter_context(context.picture_queue.searches.admit())
        embedded = await run_unless_client_leaves(request, _encode_inputs(inputs, context))
    return await context.answer(lambda: _make_answer(embedded, body.encoding_format, _name_model(context)))


def _read_inputs(texts: Sequence[str], language: str, snapshot: Snapshot, most: int) -> list[_Input]:
    """Read each input: the bytes of a picture, `most` of them, or a cleaned text with the view that encodes it."""
    if sum(text.startswith(_PICTURE) for text in texts) > _MOST_PICTURES:
        refuse("body.input", "too_long", f"one request may hold at most {_MOST_PICTURES} pictures")
    return [
        _decode_picture(text, place, most)
        if text.startswith(_PICTURE)
        else (snapshot.route(language, cleaned := clean(text)), cleaned)
        for place, text in enumerate(texts)
    ]


def _decode_picture(url: str, place: int, most: int) -> bytes:
    """Return the file in a data URL; what it says of the format is ignored."""
    head, _, content = url.partition(",")
    try:
        if not head.endswith(_BASE64):
            raise ValueError
        data = base64.b64decode(content, validate=True)
    except ValueError:  # of base64, too
        refuse(f"body.input.{place}", "data_url", "a picture is sent as `data:image/png;base64,` and its bytes")
    if len(data) > most:
        raise make_too_large(most)
    return data


async def _encode_inputs(inputs: Sequence[_Input], context: Context) -> list[_EmbeddedInput]:
    """Encode each input, in order; all texts of one view together, pictures one after another."""
    texts = iter(await _encode_texts([item for item in inputs if not isinstance(item, bytes)], context))
    return [
        _EmbeddedInput(await context.picture_queue.encode(item)) if isinstance(item, bytes) else next(texts)
        for item in inputs
    ]


async def _encode_texts(items: Sequence[tuple[Route, str]], context: Context) -> list[_EmbeddedInput]:
    by_view: dict[int, list[tuple[View, str]]] = {}
    for route, text in items:
        by_view.setdefault(route.view.version, []).append((route.view, text))
    queries: dict[tuple[int, str], EncodedQuery] = {}
    for version, group in by_view.items():
        texts = [text for _, text in group]
        encoded = await context.text_queue.encode(group[0][0], texts)
        queries |= {(version, text): query for text, query in zip(texts, encoded, strict=True)}
    found = [(queries[route.view.version, text], route.used) for route, text in items]
    return [_EmbeddedInput(query.vector, query.tokens, language) for query, language in found]


def _make_answer(embedded: Sequence[_EmbeddedInput], encoding_format: str, model: str) -> schemas.Embeddings:
    tokens = sum(each.tokens for each in embedded)
    return schemas.Embeddings(
        data=[
            schemas.Embedding(index=index, embedding=_format_vector(each.vector, encoding_format))
            for index, each in enumerate(embedded)
        ],
        languages=[each.language for each in embedded],
        model=model,
        usage=schemas.Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _format_vector(vector: Vector, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


@models_router.get("")
@require_scope("search", allows_bound_keys=True)
def list_models(context: AppContext) -> schemas.Models:
    """The one model of this service, as OpenAI lists models, with the languages that it reads."""
    snapshot = context.live.current
    base = snapshot.release.base
    first = context.registry.versions.get(base)
    taught = sorted(tag for tag, version in snapshot.release.languages.items() if version != base)
    model = schemas.Model(
        id=_name_model(context),
        created=int(first.created_at.timestamp()),
        languages=list(context.encoder.languages),
        taught=taught,
        dimension=context.encoder.dimension,
    )
    return schemas.Models(data=[model])


def _name_model(context: Context) -> str:
    """Name the model in answers: as the base, without the path of a checkpoint."""
    return f"pictoglot/{context.base}"
